"""HTTP over a unix socket, against servers that cut, stall, lie and cut again."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.client.http.direct_http import DirectHttp, SocketEndpoint
from gpuyard.client.http.exchange import ClientRequest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = ClientRequest("GET", "/version")


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[DirectHttp]:
    serving: list[asyncio.Task[Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.append(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        async with await asyncio.start_unix_server(handle, f"{folder}/api"):
            http = DirectHttp(SocketEndpoint(Path(folder) / "api"))
            yield http
            await http.aclose()
            await asyncio.gather(*serving, return_exceptions=True)


def saying(*pieces: bytes, connections: list[int] | None = None) -> Handler:
    """Says the same to every request, piece by piece, and keeps the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append(1)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    return handle


async def read(http: DirectHttp, request: ClientRequest = GET) -> bytes:
    async with http.send(request) as answer:
        return await answer.read(1 << 20)


async def test_one_connection_carries_one_exchange_after_another() -> None:
    connections: list[int] = []
    async with served(
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", connections=connections)
    ) as http:
        assert [await read(http), await read(http)] == [b"ok", b"ok"]
    assert len(connections) == 1


async def test_exchanges_at_once_have_connections_of_their_own() -> None:
    connections: list[int] = []
    async with served(
        saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", connections=connections)
    ) as http:
        assert await asyncio.gather(*(read(http) for _ in range(5))) == [b"ok"] * 5
    assert len(connections) == 5


async def test_an_answer_that_was_not_read_is_no_beginning_of_the_next() -> None:
    async with served(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlong")) as http:
        async with http.send(GET) as answer:
            assert (answer.status, answer.path) == (200, "/version")
        assert await read(http) == b"long"


@settings(max_examples=30, deadline=None)
@given(chunks=st.lists(st.binary(min_size=1, max_size=70_000), max_size=5), pieces=st.integers(1, 60))
async def test_chunks_come_whole_however_the_socket_cuts_them(chunks: list[bytes], pieces: int) -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    text += (
        b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    )
    size = -(-len(text) // pieces)
    async with served(saying(*(text[at : at + size] for at in range(0, len(text), size)))) as http:
        assert await read(http) == b"".join(chunks)
        assert await read(http) == b"".join(chunks)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    ],
)
async def test_a_cut_is_said(said: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async with served(handle) as http:
        with pytest.raises(errors.ConnectionFailed, match="it cut the connection"):
            await read(http)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 fine\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 -5 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 2_0_0 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (2 << 20),
    ],
)
async def test_what_is_no_http_is_said(said: bytes) -> None:
    async with served(saying(said)) as http:
        with pytest.raises(errors.ConnectionFailed, match="doesn't speak HTTP"):
            await read(http)


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await writer.drain()

    async with served(handle) as http:
        assert [await read(http), await read(http)] == [b"all of it"] * 2


async def test_silence_is_not_waited_out() -> None:
    async with served(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")) as http:
        with pytest.raises(errors.Stalled, match="doesn't answer"):
            await read(http, ClientRequest("GET", "/log", silence_timeout_s=0.05))


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with served(handle) as http:
        # Each close is on its way only when the next request is made.
        assert [await read(http) for _ in range(50)] == [b"ok"] * 50


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2,
        b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\nunasked!!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_what_came_unasked_answers_nothing(said: bytes) -> None:
    connections: list[int] = []
    async with served(saying(said, connections=connections)) as http:
        assert len({await read(http) for _ in range(3)}) == 1
    assert len(connections) == 3


async def test_a_command_is_never_asked_for_twice() -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        asked.append(await reader.readuntil(b"\r\n\r\n"))

    async with served(handle) as http:
        assert await read(http) == b"ok"
        with pytest.raises(errors.ConnectionFailed, match="it cut the connection"):
            await read(http, ClientRequest("GET", "/exec", upgrade={"Upgrade": "websocket"}))
    assert len(asked) == 2


@pytest.mark.parametrize("path", ["/a\nb", "/a\x00b", "/a\udcffb", "/a\r\nX: y"])
def test_a_path_can_not_say_more_than_a_path(path: str) -> None:
    with pytest.raises(errors.UsageError, match="can't be asked for"):
        ClientRequest("GET", path)


def test_a_target_is_escaped() -> None:
    request = ClientRequest("GET", "/a b/ü?x", {"labelSelector": "a in (b,c)", "x": "ä&"})
    assert request.target == "/a%20b/%C3%BC%3Fx?labelSelector=a+in+%28b%2Cc%29&x=%C3%A4%26"
