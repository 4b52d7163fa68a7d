"""A proxy follows its Service and its EndpointSlices, and ends with the Service."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.client.api import KubeApi, ObjectList, WatchEvent
from gpuyard.client.events import EventRecorder
from gpuyard.kube.objects import ENDPOINT_SLICES, EVENTS, SERVICES, Manifest, Resource
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.process import ServiceProxy, bind_problem
from tests.unit.local.service_proxy.conftest import (
    OK,
    Backend,
    Client,
    FakeReplica,
    closed_port,
    read_request,
)
from tests.waiting import until_async

_ADDRESS = "127.96.7.7"


class FakeApi:
    """Lists and watches what it is told, as the yard does; `down` has it answer nobody."""

    def __init__(self) -> None:
        self.objects: dict[Resource, dict[str, Manifest]] = {SERVICES: {}, ENDPOINT_SLICES: {}, EVENTS: {}}
        self.down = False
        self.broken: Resource | None = None
        self._version = 0
        self._watchers: list[tuple[Resource, asyncio.Queue[WatchEvent | None]]] = []

    def put(self, resource: Resource, manifest: Mapping[str, Any]) -> None:
        self._version += 1
        name = manifest["metadata"]["name"]
        metadata = {**manifest["metadata"], "resourceVersion": str(self._version), "namespace": "default"}
        new = {**manifest, "metadata": metadata, "kind": resource.kind, "apiVersion": resource.api_version}
        kind = "MODIFIED" if name in self.objects[resource] else "ADDED"
        self.objects[resource][name] = new
        self._tell(resource, WatchEvent(kind, new))  # type: ignore[arg-type]

    def remove(self, resource: Resource, name: str) -> None:
        self._tell(resource, WatchEvent("DELETED", self.objects[resource].pop(name)))

    def go_down(self) -> None:
        self.down = True
        for _, queue in self._watchers:
            queue.put_nowait(None)

    def _tell(self, resource: Resource, event: WatchEvent) -> None:
        for watched, queue in self._watchers:
            if watched == resource:
                queue.put_nowait(event)

    async def list(self, resource: Resource, namespace: str | None = None, **_: str) -> ObjectList:
        if resource == self.broken:
            raise RuntimeError("nobody foresaw this")
        if self.down:
            raise errors.ConnectionFailed("nobody answers")
        return ObjectList(list(self.objects[resource].values()), str(self._version))

    async def watch(
        self, resource: Resource, namespace: str | None = None, **_: str
    ) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        self._watchers.append((resource, queue))
        while (event := await queue.get()) is not None:
            yield event
        raise errors.ConnectionFailed("the daemon has ended")

    async def create(
        self, resource: Resource, manifest: Mapping[str, Any], namespace: str | None = None
    ) -> Manifest:
        self.put(resource, manifest)
        return dict(manifest)


def _service(port: int, uid: str = "u", address: str = _ADDRESS) -> Manifest:
    ports = [{"name": "http", "port": port, "protocol": "TCP"}]
    return {"metadata": {"name": "d", "uid": uid}, "spec": {"clusterIP": address, "ports": ports}}


def _slice(*replicas: FakeReplica) -> Manifest:
    (port,) = {replica.port for replica in replicas}
    endpoints = [
        {"addresses": ["127.0.0.1"], "conditions": {"ready": True}, "targetRef": {"name": replica.name}}
        for replica in replicas
    ]
    return {
        "metadata": {"name": f"d-{port}", "uid": f"s{port}"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": endpoints,
    }


@asynccontextmanager
async def _running(
    api: FakeApi, tmp_path: Path, *, drain_s: float = 0.2
) -> AsyncIterator[tuple[ServiceProxy, asyncio.Task[None]]]:
    events = EventRecorder(cast(KubeApi, api), "service-proxy", lambda: datetime(2026, 1, 1, tzinfo=UTC))
    proxy = ServiceProxy(cast(KubeApi, api), events, "default", "d", ProxyLimits(drain_s=drain_s))
    task = asyncio.create_task(proxy.run(tmp_path / "d.sock"))
    try:
        yield proxy, task
    finally:
        proxy.stop()
        await asyncio.wait_for(task, 60)


async def _ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection(_ADDRESS, port)
    try:
        return await Client(reader, writer).ask()
    finally:
        writer.transport.abort()


async def _asked(port: int) -> bytes:
    return await until_async(lambda: _ask(port), "the proxy answers", not_yet=OSError)


async def test_it_follows_its_service_and_its_slices(backend: Backend, tmp_path: Path) -> None:
    api, port = FakeApi(), closed_port()
    api.put(SERVICES, _service(port))
    async with _running(api, tmp_path) as (proxy, task):
        held = asyncio.create_task(_asked(port))
        await until_async(lambda: proxy.figures.in_flight, "a request waits for the first replica")
        first, second = await backend.answering(name="a"), await backend.answering(name="b")
        api.put(ENDPOINT_SLICES, _slice(first))
        assert await held == OK
        api.put(ENDPOINT_SLICES, _slice(second))
        api.remove(ENDPOINT_SLICES, f"d-{first.port}")
        await until_async(lambda: "b" in proxy.page() and 'replica="a"} ' not in proxy.page(), "b is ready")
        assert await _ask(port) == OK
        assert len(second.requests) == 1
        api.remove(SERVICES, "d")
        await task
    assert not (tmp_path / "d.sock").exists()


async def test_it_goes_on_with_what_it_knows_while_the_api_is_away(backend: Backend, tmp_path: Path) -> None:
    api, port = FakeApi(), closed_port()
    api.put(SERVICES, _service(port))
    api.put(ENDPOINT_SLICES, _slice(await backend.answering()))
    async with _running(api, tmp_path):
        assert await _asked(port) == OK
        api.go_down()
        assert await _ask(port) == OK
        other = await backend.answering(name="later")
        api.objects[ENDPOINT_SLICES].clear()
        api.objects[ENDPOINT_SLICES]["x"] = {**_slice(other), "kind": "EndpointSlice"}
        api.objects[ENDPOINT_SLICES]["x"]["metadata"]["resourceVersion"] = "99"
        api.down = False
        await until_async(lambda: _reaches(port, other), "the new replica is known")


async def _reaches(port: int, replica: FakeReplica) -> bool:
    await _ask(port)
    return bool(replica.requests)


async def test_what_it_finishes_goes_to_the_replicas_of_now(backend: Backend, tmp_path: Path) -> None:
    api, port = FakeApi(), closed_port()
    api.put(SERVICES, _service(port))
    async with _running(api, tmp_path, drain_s=600.0) as (proxy, task):
        gone = await backend.answering(name="gone")
        api.put(ENDPOINT_SLICES, _slice(gone))
        assert await _asked(port) == OK
        reader, writer = await asyncio.open_connection(_ADDRESS, port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: ")
        assert await read_request(reader) == OK
        api.remove(SERVICES, "d")
        await until_async(lambda: _refuses(port), "it listens no more")
        replica = await backend.answering(name="later")
        api.put(ENDPOINT_SLICES, _slice(replica))
        api.remove(ENDPOINT_SLICES, f"d-{gone.port}")
        await until_async(lambda: 'replica="gone"} ' not in proxy.page(), "the other one is known to be gone")
        writer.write(b"a\r\n\r\n")
        assert b"Connection: close" in await read_request(reader)
        assert len(replica.requests) == 1
        await task
        writer.close()


async def _refuses(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(_ADDRESS, port)
    except ConnectionRefusedError:
        return True
    writer.transport.abort()
    return False


async def test_it_ends_when_its_service_is_another_one(tmp_path: Path) -> None:
    api = FakeApi()
    api.put(SERVICES, _service(closed_port()))
    async with _running(api, tmp_path) as (_, task):
        await until_async((tmp_path / "d.sock").exists, "it has begun")
        api.put(SERVICES, _service(closed_port(), uid="another"))
        await task


@pytest.mark.parametrize("resource", [SERVICES, ENDPOINT_SLICES])
async def test_it_ends_when_a_watch_does(
    resource: Resource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakeApi()
    api.put(SERVICES, _service(closed_port()))
    async with _running(api, tmp_path) as (_, task):
        await until_async((tmp_path / "d.sock").exists, "it has begun")
        api.broken = resource
        api.go_down()
        await task
    assert f"informer-{resource.plural} has ended" in caplog.text


async def test_it_ends_at_once_without_an_address(tmp_path: Path) -> None:
    api = FakeApi()
    api.put(SERVICES, _service(closed_port(), address="None"))
    async with _running(api, tmp_path) as (_, task):
        await task
        assert task.done()


async def test_it_follows_its_services_ports(backend: Backend, tmp_path: Path) -> None:
    api, before, after = FakeApi(), closed_port(), closed_port()
    api.put(SERVICES, _service(before))
    api.put(ENDPOINT_SLICES, _slice(await backend.answering()))
    async with _running(api, tmp_path):
        assert await _asked(before) == OK
        api.put(SERVICES, _service(after))
        assert await _asked(after) == OK


async def test_a_taken_port_is_told_and_tried_again(backend: Backend, tmp_path: Path) -> None:
    api = FakeApi()
    with socket.create_server((_ADDRESS, 0)) as other:
        port = other.getsockname()[1]
        api.put(SERVICES, _service(port))
        api.put(ENDPOINT_SLICES, _slice(await backend.answering()))
        proxies = _running(api, tmp_path)
        await proxies.__aenter__()
        (event,) = await until_async(lambda: list(api.objects[EVENTS].values()), "an Event tells of it")
    assert (event["type"], event["reason"]) == ("Warning", "PortTaken")
    assert f"{_ADDRESS}:{port}" in event["message"]
    assert event["involvedObject"]["kind"] == "Service"
    assert await _asked(port) == OK
    await proxies.__aexit__(None, None, None)


def test_every_bind_problem_has_a_remedy() -> None:
    assert bind_problem("127.96.0.1", 80, OSError(errno.EACCES, "Permission denied"))[0] == "PortNotAllowed"
    reason, message = bind_problem("127.96.0.1", 80, OSError(errno.EADDRNOTAVAIL, "Cannot assign"))
    assert reason == "AddressNotUsable"
    assert "Cannot assign" in message
