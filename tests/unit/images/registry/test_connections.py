from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from gpuyard import errors
from gpuyard.images.registry.connections import PIECE_BYTES, Connections
from gpuyard.images.registry.urls import Url

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with the next of its answers; an answer of None cuts the connection."""

    def __init__(self, *answers: bytes | None, reads_bodies: bool = True) -> None:
        self.answers = list(answers)
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.reads_bodies = reads_bodies
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = Url.parse(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/x?y")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()
        self._server.close()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Ends every connection."""
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                length = next(
                    (
                        int(line[16:])
                        for line in head.decode().split("\r\n")
                        if line.startswith("Content-Length")
                    ),
                    0,
                )
                if self.reads_bodies:
                    self.bodies.append(await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if not self.reads_bodies:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def connections(timeout_s: float = 20.0, most: int = 4) -> AsyncIterator[Connections]:
    def tls() -> ssl.SSLContext:
        raise AssertionError("nobody asked for TLS")

    made = Connections(timeout_s, most, tls)
    try:
        yield made
    finally:
        await made.aclose()


async def ask(
    to: Connections, url: Url, method: str = "GET", content: bytes | None = None,
    reached: Callable[[], None] = lambda: None,
) -> tuple[int, bytes]:  # fmt: skip
    async with to.send(method, url, {"Accept": "*/*"}, content, reached) as answer:
        return answer.status_code, b"".join([piece async for piece in answer.pieces])


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
)


async def test_one_connection_carries_one_request_after_another() -> None:
    answers = (
        OK,
        CHUNKED,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
    )
    async with Server(*answers) as server, connections() as to:
        assert await ask(to, server.url) == (200, b"ok")
        assert await ask(to, server.url) == (200, b"abcde")
        assert await ask(to, server.url) == (204, b"")
        assert await ask(to, server.url, "POST", b"body") == (201, b"")
        assert await ask(to, server.url, "HEAD") == (200, b"")
        assert server.connections == 1
        assert server.bodies == [b"", b"", b"", b"body", b""]
        assert server.heads[0] == f"GET /x?y HTTP/1.1\r\nHost: {server.url.netloc}\r\nAccept: */*\r\n\r\n"
        assert server.heads[3].endswith("Content-Length: 4\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: Close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["announced", "without a word"],
)
async def test_a_connection_that_the_server_closed_is_not_used_again(answer: bytes) -> None:
    async with Server(answer, OK) as server, connections() as to:
        assert await ask(to, server.url) == (200, b"ok")
        await server.cut()
        assert await ask(to, server.url) == (200, b"ok")
        assert server.connections == 2


async def test_a_body_that_was_not_read_is_not_the_next_answer() -> None:
    async with Server(OK, OK) as server, connections() as to:
        async with to.send("GET", server.url, {}, None, lambda: None) as answer:
            assert answer.status_code == 200
        assert await ask(to, server.url) == (200, b"ok")
        assert server.connections == 2


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with Server(b"HTTP/1.0 200 OK\r\n\r\nall of it", reads_bodies=False) as server, connections() as to:
        assert await ask(to, server.url) == (200, b"all of it")


async def test_a_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * (PIECE_BYTES // 64)
    async with Server(OK) as server, connections() as to:
        assert await ask(to, server.url, "PUT", body) == (200, b"ok")
        assert server.bodies == [body]


async def test_who_refuses_a_body_is_heard_though_he_reads_none_of_it() -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch"
    async with Server(refused, reads_bodies=False) as server, connections() as to:
        # So large that it doesn't fit into the buffers on the way.
        status, _ = await ask(to, server.url, "PUT", bytes(1 << 25))
        assert status == 413


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, EOFError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", EOFError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", EOFError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", EOFError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n", ValueError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", ValueError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", ValueError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nab", ValueError),
        (b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n", ValueError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ValueError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * (1 << 18) + b"\r\n\r\n", ValueError),
    ],
)
async def test_what_breaks_or_speaks_otherwise_is_an_error(
    answer: bytes | None, error: type[Exception]
) -> None:
    async with Server(answer, reads_bodies=False) as server, connections() as to:
        reached: list[bool] = []
        with pytest.raises(error):
            await ask(to, server.url, reached=lambda: reached.append(True))
        assert reached == [True]


async def test_silence_is_a_cut_connection() -> None:
    async with Server(b"") as server, connections(timeout_s=0.05) as to:
        with pytest.raises(TimeoutError, match="no answer in time"):
            await ask(to, server.url)


async def test_where_nobody_listens_nothing_is_reached() -> None:
    async with Server() as server:
        url = server.url
    async with connections() as to:
        with pytest.raises(ConnectionRefusedError):
            await ask(to, url, reached=lambda: pytest.fail("it was reached"))


async def test_a_header_cannot_bring_another() -> None:
    async with Server(OK) as server, connections() as to:
        with pytest.raises(ValueError, match="line break"):
            async with to.send("GET", server.url, {"Accept": "a\r\nX: y"}, None, lambda: None):
                pass
        assert server.heads == []


async def test_only_so_many_requests_are_on_their_way_at_once() -> None:
    async with Server(OK, OK, OK, OK) as server, connections(most=1) as to:
        answers = await asyncio.gather(*(ask(to, server.url) for _ in range(4)))
        assert answers == [(200, b"ok")] * 4
        assert server.connections == 1


async def test_authorities_are_read_once_and_ahead_of_the_requests() -> None:
    made: list[ssl.SSLContext] = []

    def tls() -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    async with Server() as server:
        to = Connections(20.0, 4, tls)
        to.expect_tls()
        to.expect_tls()
        url = server.url.with_scheme("https")
        for _ in range(2):
            # A server without TLS has no idea of what it is told.
            with pytest.raises((OSError, EOFError)):
                await ask(to, url)
        await to.aclose()
    assert len(made) == 1


async def test_authorities_that_cannot_be_read_are_said_to_each_request() -> None:
    def tls() -> ssl.SSLContext:
        raise errors.UsageError("the certificates can't be read")

    to = Connections(20.0, 4, tls)
    to.expect_tls()
    for _ in range(2):
        with pytest.raises(errors.UsageError):
            await ask(to, Url.parse("https://127.0.0.1:1/"))
    await to.aclose()
