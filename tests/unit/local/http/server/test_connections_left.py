"""What is left of a connection whose client has gone: nothing. Over real sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server import connections
from gpuyard.local.http.server.connections import BoundedProtocol
from gpuyard.local.objects.pod_logs import PodLogOptions
from gpuyard.local.objects.verbs import ObjectApi
from tests.unit.local.conftest import TOKEN, MemoryLogs, Served, serving, trusting
from tests.waiting import until_async

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
LARGE = orjson.dumps(
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "large"},
        "data": {"key": "x" * 900_000},
    }
)
POD = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "main", "image": "python"}]}}
FOLLOW = ("GET", f"{PODS}/a/log?follow=1", b"")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """An idle daemon's collector hardly runs: what is left has to go without it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _live() -> int:
    """Connections in memory, with or without a socket, and their TLS parts."""
    return sum(type(thing) in (SSLProtocol, BoundedProtocol) for thing in gc.get_objects())


def _request(served: Served, method: str, path: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.listeners.port}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _connect(served: Served, scheme: str) -> socket.socket:
    if scheme == "http":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(served.listeners.unix_path))
        return connection
    plain = socket.create_connection(("127.0.0.1", served.listeners.port))
    return trusting(served.pki).wrap_socket(plain, server_hostname="127.0.0.1")


def _ask(served: Served, scheme: str, request: bytes) -> socket.socket:
    """Sends a request and reads no more than the beginning of its answer."""
    connection = _connect(served, scheme)
    connection.sendall(request)
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def _read_all(connection: socket.socket) -> bytes:
    read = b""
    while piece := connection.recv(65536):
        read += piece
    return read


async def _make_pod(served: Served, api: ObjectApi) -> None:
    """One that has a log."""
    assert (await served.http.post(PODS, json=POD)).status_code == 201
    await api.bind("default", "a", "n")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "request_",
    [
        ("GET", f"{CONFIG_MAPS}/large", b""),
        ("PUT", f"{CONFIG_MAPS}/large", LARGE),
        ("GET", f"{CONFIG_MAPS}?watch=1", b""),
        FOLLOW,
    ],
    ids=["get", "put", "watch", "log"],
)
async def test_nothing_is_left_of_a_client_that_leaves_before_it_has_read(
    served: Served,
    api: ObjectApi,
    logs: MemoryLogs,
    no_collector: None,
    scheme: str,
    request_: tuple[str, str, bytes],
) -> None:
    logs.text["main"] = [b"a line\n"]
    await _make_pod(served, api)
    assert (await served.http.post(CONFIG_MAPS, content=LARGE)).status_code == 201
    before = _live()
    request = _request(served, *request_)
    opened = [await asyncio.to_thread(_ask, served, scheme, request) for _ in range(8)]
    assert _live() >= before + 8
    for connection in opened:
        connection.close()
    await until_async(_live, "no connection", lambda live: live <= before)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_client_that_asks_more_behind_a_stream_is_missed_when_it_leaves(
    served: Served, api: ObjectApi, logs: MemoryLogs, scheme: str
) -> None:
    logs.text["main"] = [b"a line\n"]
    await _make_pod(served, api)
    connection = await asyncio.to_thread(_ask, served, scheme, _request(served, *FOLLOW) * 2)
    await logs.opened.wait()
    connection.close()
    await until_async(logs.closed.is_set, "the end of the stream")


async def test_a_connection_with_two_requests_at_a_time_ends_after_the_first(served: Served) -> None:
    connection = _connect(served, "http")
    connection.sendall(_request(served, "GET", "/version") + _request(served, "GET", CONFIG_MAPS) * 2)
    answer = await asyncio.to_thread(_read_all, connection)
    connection.close()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b'"gitVersion"' in answer


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_who_sends_no_more_and_reads_nothing_is_ended(
    served: Served, api: ObjectApi, logs: MemoryLogs, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Its half of the connection is closed; the answer is more than sockets hold."""
    monkeypatch.setattr(connections, "END_TIMEOUT_S", 0.2)
    logs.text["main"] = [b"x" * 100_000] * 400
    await _make_pod(served, api)
    before = len(asyncio.all_tasks())
    connection = await asyncio.to_thread(_ask, served, scheme, _request(served, *FOLLOW))
    await logs.opened.wait()
    socket.socket.shutdown(connection, socket.SHUT_WR)
    await until_async(logs.closed.is_set, "the end of the stream")
    await until_async(lambda: len(asyncio.all_tasks()), "no task", lambda tasks: tasks <= before)
    connection.close()


@dataclass
class LeavingLogs(MemoryLogs):
    """The client leaves while a burst of lines is sent."""

    clients: list[socket.socket] = field(default_factory=list)

    async def _pieces(self, pieces: list[bytes], options: PodLogOptions) -> AsyncGenerator[bytes, None]:
        yield b"a line\n"
        self.opened.set()
        await self.ended.wait()
        self.clients.pop().close()
        try:
            for _ in range(100):
                yield b"a line\n"
        finally:
            self.closed.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nothing_is_written_to_a_client_that_has_left(
    folder: Path, api: ObjectApi, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    """asyncio warns of each write to a connection that is lost, from the fifth on."""
    logs = LeavingLogs()
    logs.text["main"] = []
    async with serving(folder, ApiApp(api, logs=logs)) as served:
        await _make_pod(served, api)
        logs.clients.append(await asyncio.to_thread(_ask, served, scheme, _request(served, *FOLLOW)))
        await logs.opened.wait()
        logs.ended.set()
        await until_async(logs.closed.is_set, "the end of the stream")
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
