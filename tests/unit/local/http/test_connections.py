"""What connections may cost: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gpuyard.local.http import connections
from gpuyard.local.http.connections import MAX_HEAD_BYTES, Places
from tests.unit.local.conftest import TOKEN, Served, trusting


async def _connect(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", served.listeners.port, ssl=trusting(served.pki))


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_headers_beyond_the_limit_are_refused_as_they_come(served: Served) -> None:
    _, writer = await _connect(served)
    writer.write(b"GET / HTTP/1.1\r\n")
    with pytest.raises(ConnectionError):
        for number in range(100_000):
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
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert (await served.https.get("/version", headers=headers)).status_code == 200
    async with served.https.stream("GET", "/api/v1/pods?watch=1&timeoutSeconds=2", headers=headers) as watch:
        assert [line async for line in watch.aiter_lines()] == []
    assert watch.status_code == 200


async def test_places_come_back() -> None:
    places = Places(trusted=False, limit=2)
    first, second = await places.take(), await places.take()
    third = asyncio.create_task(places.take())
    first.identify()
    await asyncio.sleep(0)
    assert not third.done()  # there are two in all
    second.leave()
    place = await third
    for one in (first, second, place, place):
        one.leave()
    assert not (await places.take()).is_known
