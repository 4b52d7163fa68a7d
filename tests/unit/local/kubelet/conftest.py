from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuyard.client.informer import Informer
from gpuyard.errors import BadRequest
from gpuyard.kube.objects import EVENTS, PODS, Manifest
from gpuyard.kube.wellknown import IMAGE_PROCESS, RUNTIME_CLASS_PROCESS
from gpuyard.local.kubelet.back_off import BackOff
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.kubelet import Kubelet
from gpuyard.local.kubelet.machine import Machine
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.pod_logs import PodLogOptions
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.process.sandbox import find_isolation, no_isolation
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.store import Store
from tests.waiting import until_async

NODE = "here"


def utc_now() -> datetime:
    return datetime.now(UTC)


def names(items: Iterable[Manifest]) -> set[str]:
    return {item["metadata"]["name"] for item in items}


@dataclass
class Host:
    """A store, an API, and a kubelet that can be stopped and started again over the same folders."""

    api: ObjectApi
    paths: YardPaths
    runtime: Runtimes
    back_off: BackOff = field(default_factory=lambda: BackOff(first_s=0.05, most_s=0.1, obstacle_s=0.05))
    kubelet: Kubelet | None = None
    devices: DeviceManager | None = None
    machine: Machine | None = None
    clock: Callable[[], datetime] = utc_now

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Kubelet]:
        """Runs a kubelet; on the way out it is cancelled and its processes go on."""
        devices = DeviceManager(self.paths.device_plugins_dir, self.paths.device_checkpoint, utc_now)
        await devices.start()
        pods = Informer(self.api, PODS)
        settings = {"devices_due_s": 0.0, "back_off": self.back_off, **settings}
        self.devices = devices
        self.machine = Machine(self.paths, self.runtime, self.clock, [NODE])
        self.kubelet = Kubelet(self.api, self.machine, NODE, devices, pods=pods, **settings)
        tasks = [
            asyncio.create_task(pods.run(), name="informer"),
            asyncio.create_task(self.kubelet.run(), name="kubelet"),
        ]
        try:
            yield self.kubelet
        finally:
            for task in reversed(tasks):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await devices.stop()

    async def create(self, name: str, *command: str, **spec: Any) -> Manifest:
        """A pod of one container, bound to this node."""
        container = {"name": "main", "image": IMAGE_PROCESS, "command": list(command), **spec.pop("main", {})}
        spec = {"restartPolicy": "Never", "containers": [container], **spec}
        return await self.api.create(
            PODS,
            {
                "metadata": {"name": name, "namespace": "default", **spec.pop("metadata", {})},
                "spec": {"runtimeClassName": RUNTIME_CLASS_PROCESS, "nodeName": NODE, **spec},
            },
        )

    async def get(self, name: str) -> Manifest:
        return await self.api.get(PODS, name, "default")

    async def until(self, name: str, condition: Callable[[Manifest], Any]) -> Manifest:
        """The pod as soon as the condition holds."""
        return await until_async(lambda: self.get(name), f"pod {name} is as wanted", condition)

    async def passes(self, pod: Manifest, condition: Callable[[Manifest], Any]) -> Manifest:
        """The first of all states since this one of which the condition holds, however short it lasted."""
        since = pod["metadata"]["resourceVersion"]
        async with asyncio.timeout(60):
            async for event in self.api.watch(PODS, "default", resource_version=since):
                if event.object["metadata"]["uid"] == pod["metadata"]["uid"] and condition(event.object):
                    return event.object
        raise AssertionError(f"the watch of pod {pod['metadata']['name']} ended")

    async def finished(self, name: str) -> Manifest:
        return await self.until(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"))

    async def until_gone(self, name: str) -> None:
        await until_async(
            lambda: self.api.list(PODS), f"pod {name} is gone", lambda pods: name not in names(pods.items)
        )

    async def says(self, name: str, text: str) -> None:
        """Waits until the log has the text."""
        await until_async(
            lambda: self.log(name), f"{name} says {text!r}", lambda log: text in log, not_yet=BadRequest
        )

    async def until_devices(self, resource: str, count: int) -> None:
        """So many devices of a plugin are known."""
        assert self.devices is not None
        known = self.devices.devices
        await until_async(lambda: len(known().get(resource, ())) == count, f"{count} {resource} are known")

    async def until_removed(self, pod: Mapping[str, Any]) -> None:
        """Nothing of the pod is left on this host."""
        await until_async(lambda: not self.folder(pod).exists(), f"{self.folder(pod)} is removed")

    async def events(self, reason: str) -> list[Manifest]:
        """The events with this reason, as soon as there are some."""

        async def found() -> list[Manifest]:
            return [event for event in (await self.api.list(EVENTS)).items if event["reason"] == reason]

        return await until_async(found, f"an event {reason}")

    async def messages(self, reason: str) -> list[str]:
        """What events with this reason say, as soon as there are some."""
        return [event["message"] for event in await self.events(reason)]

    async def log(self, name: str, container: str = "main", **options: Any) -> str:
        assert self.machine is not None
        log = await self.machine.logs.open_log(await self.get(name), container, PodLogOptions(**options))
        return b"".join([piece async for piece in log.pieces]).decode()

    def folder(self, pod: Mapping[str, Any]) -> Path:
        return self.paths.pods_dir / str(pod["metadata"]["uid"])


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gy-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture(params=["bubblewrap", "none"])
async def runtime(request: pytest.FixtureRequest) -> Runtimes:
    isolation = no_isolation("not wanted")
    if request.param == "bubblewrap":
        isolation = await find_isolation(os.environ["PATH"])
        if isolation.level == "none":
            pytest.skip(isolation.warning)
    return Runtimes(isolation, Cgroups(), utc_now)


@pytest.fixture
async def host(folder: Path, runtime: Runtimes) -> AsyncIterator[Host]:
    paths = YardPaths(folder / "data", folder / "run")
    paths.make_folders()
    store = await Store.open(paths.database)
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    try:
        yield Host(api, paths, runtime)
    finally:
        await store.close()
        await _end_all(paths, runtime)


async def _end_all(paths: YardPaths, runtime: Runtimes) -> None:
    for journal in paths.pods_dir.glob("*/*/*/journal"):
        found = await runtime.adopt(journal.parent)
        if isinstance(found, Container):
            await found.stop(0)
            await found.wait()
