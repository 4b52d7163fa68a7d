"""What connections may cost: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from pathlib import Path

import pytest

from gpuyard.local.http.app import ApiApp
from gpuyard.local.http.server import connections
from gpuyard.local.http.server import listeners as server
from gpuyard.local.http.server.connections import MAX_HEAD_BYTES
from gpuyard.local.objects.verbs import ObjectApi
from tests.unit.local.conftest import TOKEN, MemoryLogs, Served, serving, trusting
from tests.waiting import until_async

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


async def _connect(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", served.listeners.port, ssl=trusting(served.pki))


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def _drain(connection: socket.socket) -> None:
    """Waits for the other side's end."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(4096):
            pass


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;",
    ],
    ids=["head", "trailers", "chunk extension"],
)
async def test_headers_beyond_the_limit_are_refused_as_they_come(served: Served, begin: bytes) -> None:
    _, writer = await _connect(served)
    writer.write(begin)
    with pytest.raises(ConnectionError):
        for number in range(30_000):
            writer.write(b"x-%d: %s\r\n" % (number, b"a" * 1000))
            await writer.drain()
    await _close(writer)


async def test_a_long_address_is_refused(served: Served) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.listeners.unix_path))
    writer.write(b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"a" * MAX_HEAD_BYTES))
    assert (await _read_all(reader)).startswith(b"HTTP/1.1 431 ")
    await _close(writer)
    assert (await served.http.get("/version")).status_code == 200


async def test_a_request_that_stops_in_its_headers_is_ended(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_unix_connection(str(served.listeners.unix_path))
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n")
    assert await _read_all(reader) == b""
    await _close(writer)


async def test_who_shows_no_token_in_time_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNKNOWN_TIMEOUT_S", 0.2)
    reader, writer = await _connect(served)
    assert await _read_all(reader) == b""
    await _close(writer)


async def test_who_has_the_token_stays(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNKNOWN_TIMEOUT_S", 1.0)
    assert (await served.https.get("/version", headers=AUTHORIZED)).status_code == 200
    async with served.https.stream(
        "GET", "/api/v1/pods?watch=1&timeoutSeconds=2", headers=AUTHORIZED
    ) as watch:
        assert [line async for line in watch.aiter_lines()] == []
    assert watch.status_code == 200


async def test_who_has_the_token_gets_in_beside_thousands_that_wait(served: Served) -> None:
    """Idle ones are dropped, the oldest first, before and after their TLS handshake."""
    limit = connections.MAX_UNKNOWN
    silent = [socket.create_connection(("127.0.0.1", served.listeners.port)) for _ in range(500)]
    spoken = await asyncio.gather(*(_connect(served) for _ in range(limit // 2)))
    assert (await served.https.get("/version", headers=AUTHORIZED)).status_code == 200
    assert (await served.http.get("/version")).status_code == 200
    for reader, writer in spoken:
        await _close(writer)
        assert await _read_all(reader) == b""
    for connection in silent[: 500 - limit]:
        connection.settimeout(60)
        await asyncio.to_thread(_drain, connection)
    for connection in silent:
        connection.close()


async def test_a_server_that_is_cancelled_twice_closes_its_sockets(served: Served) -> None:
    opening = socket.create_connection(("127.0.0.1", served.listeners.port))  # its handshake never ends
    assert (await served.http.get("/version")).status_code == 200
    served.task.cancel()
    await asyncio.sleep(0)
    served.task.cancel()
    await asyncio.gather(served.task, return_exceptions=True)
    assert (served.listeners.unix.fileno(), served.listeners.tcp.fileno()) == (-1, -1)
    await asyncio.to_thread(_drain, opening)
    opening.close()


async def test_the_limit_of_all_connections_leaves_descriptors(
    folder: Path, api: ObjectApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "max_connections", lambda: 3)
    async with serving(folder, ApiApp(api, logs=MemoryLogs())) as served:
        path = str(served.listeners.unix_path)
        opened = [await asyncio.open_unix_connection(path) for _ in range(4)]
        for reader, writer in opened[:3]:
            writer.write(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        reader, writer = opened[3]
        writer.write(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = asyncio.create_task(reader.readline())
        assert (await served.https.get("/version", headers=AUTHORIZED)).status_code == 200  # others go on
        assert not answer.done()
        await _close(opened[0][1])
        assert (await answer).startswith(b"HTTP/1.1 200 ")
        for _, writer in opened[1:]:
            await _close(writer)


async def test_without_descriptors_it_pauses_and_goes_on(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "ACCEPT_PAUSE_S", 0.01)
    assert (await served.http.get("/version")).status_code == 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connection = socket.socket(socket.AF_UNIX)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(connection.fileno()))
        connection.setblocking(False)
        connection.connect(str(served.listeners.unix_path))
        connection.send(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = asyncio.create_task(asyncio.get_running_loop().sock_recv(connection, 15))
        # Who is connected goes on; with this answer the loop has also met the connection above.
        assert (await served.http.get("/version")).status_code == 200
        assert not answer.done()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await answer == b"HTTP/1.1 200 OK"
    connection.close()
    assert caplog.records == []


async def test_a_connection_may_end_after_its_listener(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The listener is made anew where a cleaner of /tmp has removed its file."""
    monkeypatch.setattr(server, "REACHABLE_CHECK_S", 0.01)
    reader, writer = await asyncio.open_unix_connection(str(served.listeners.unix_path))
    writer.write(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    old = served.listeners.unix
    served.listeners.unix_path.unlink()
    await until_async(lambda: served.listeners.unix is not old, "another socket")
    await _close(writer)
    # The yard has met that connection's end when it has answered another one.
    assert (await served.http.get("/version")).status_code == 200
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
