"""One process for each Service with an address, whoever started it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuyard.client.informer import Informer
from gpuyard.kube.objects import SERVICES, Manifest, uid_of
from gpuyard.local.daemon.service_proxies import ServiceProxies
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.paths import YardPaths
from gpuyard.local.proxy_process import ProxyFiles, ProxyProcess, end_proxies
from tests.unit.local.conftest import Served
from tests.waiting import until_async


@pytest.fixture
def paths(folder: Path, served: Served) -> YardPaths:
    """Of a yard whose API answers on its socket."""
    paths = YardPaths(folder, folder)
    paths.services_dir.mkdir()
    return paths


@asynccontextmanager
async def keeping(api: ObjectApi, paths: YardPaths) -> AsyncIterator[ServiceProxies]:
    """As a daemon has them; what it kept goes on after it."""
    informer = Informer(api, SERVICES)
    proxies = ServiceProxies(paths, informer)
    tasks = [asyncio.create_task(informer.run()), asyncio.create_task(proxies.run())]
    try:
        yield proxies
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _service(api: ObjectApi, name: str, **spec: Any) -> Manifest:
    manifest = {"metadata": {"name": name}, "spec": {"ports": [{"port": 8000}], **spec}}
    return await api.create(SERVICES, manifest, "default")


async def _pid_of(paths: YardPaths, service: Manifest, *, other_than: int = 0) -> int:
    def look() -> int:
        found = ProxyProcess.find(ProxyFiles.of(paths, uid_of(service)).lock)
        if found is None or found.pid == other_than:
            return 0
        found.close()
        return found.pid

    return await until_async(look, "its proxy lives")


async def test_a_proxy_outlives_its_daemon_and_is_found_again(api: ObjectApi, paths: YardPaths) -> None:
    service = await _service(api, "digits")
    try:
        async with keeping(api, paths) as proxies:
            pid = await _pid_of(paths, service)
            samples = await until_async(lambda: proxies.read("default", "digits"), "it tells its figures")
            assert {sample.labels["service"] for sample in samples} == {"digits"}
            assert await proxies.read("default", "other") == []
        async with keeping(api, paths) as proxies:
            assert await until_async(lambda: proxies.sockets, "the Service is known")
            assert await _pid_of(paths, service) == pid
            os.kill(pid, signal.SIGKILL)
            assert await _pid_of(paths, service, other_than=pid) != pid
    finally:
        await asyncio.to_thread(end_proxies, paths)


async def test_a_proxy_ends_with_its_service(api: ObjectApi, paths: YardPaths) -> None:
    service = await _service(api, "digits")
    await _service(api, "headless", clusterIP="None")
    try:
        async with keeping(api, paths) as proxies:
            await _pid_of(paths, service)
            assert len(proxies.sockets) == 1
            await api.delete(SERVICES, "digits", "default")
            lock = ProxyFiles.of(paths, uid_of(service)).lock
            await until_async(lambda: ProxyProcess.find(lock) is None, "it has ended")
            assert proxies.sockets == []
    finally:
        await asyncio.to_thread(end_proxies, paths)


async def test_a_proxy_whose_service_is_gone_leaves_no_zombie(api: ObjectApi, paths: YardPaths) -> None:
    service = await _service(api, "digits")
    try:
        async with keeping(api, paths):
            pid = await _pid_of(paths, service)
            await api.delete(SERVICES, "digits", "default")
            await until_async(lambda: not Path(f"/proc/{pid}").exists(), "it is waited for")
    finally:
        await asyncio.to_thread(end_proxies, paths)


async def test_a_proxy_whose_service_went_while_no_daemon_looked_is_ended(
    api: ObjectApi, paths: YardPaths
) -> None:
    service = await _service(api, "digits")
    lock = ProxyFiles.of(paths, uid_of(service)).lock
    try:
        async with keeping(api, paths):
            await _pid_of(paths, service)
        lock.rename(lock.with_name("of-a-service-that-is-gone"))
        async with keeping(api, paths):
            await _pid_of(paths, service)
            gone = lock.with_name("of-a-service-that-is-gone")
            await until_async(lambda: ProxyProcess.find(gone) is None, "the other one has ended")
    finally:
        await asyncio.to_thread(end_proxies, paths)
