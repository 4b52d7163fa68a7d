"""HTTP/1.1 over connections that are kept: what registries need of it, and no more. Source: RFC 9112.

A library for it takes as long to import as a small build does all the rest (docs/adr/0036).
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

from gpuyard.images.registry.responses import Headers, HttpResponse
from gpuyard.images.registry.urls import Url

_MAX_HEAD_BYTES = 1 << 17
#: Bodies go and come in pieces of at most this size.
PIECE_BYTES = 1 << 18
_CONNECT_TIMEOUT_S = 10.0
#: Proxies and registries close what waits for longer.
_KEPT_S = 5.0
_WITHOUT_BODY = frozenset({204, 304})

Body: TypeAlias = "bytes | memoryview | None"


class _UnbrokenReader(asyncio.StreamReader):
    """Gives what arrived before a connection broke: a server that refuses a body answers, and closes."""

    broken: Exception | None = None

    def set_exception(self, exc: Exception) -> None:
        self.broken = exc
        self.feed_eof()


class Connections:
    """Sends requests to any number of servers.

    Args:
        timeout_s: silence that counts as a cut connection.
        most: connections that carry a request at once.
        tls: makes the context for HTTPS, when it is needed.
    """

    def __init__(self, timeout_s: float, most: int, tls: Callable[[], ssl.SSLContext]) -> None:
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(most)
        self._tls = tls
        self._context: asyncio.Task[ssl.SSLContext] | None = None
        self._idle: dict[tuple[str, str, int], list[_KeptConnection]] = {}

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        content: Body,
        reached: Callable[[], None],
    ) -> AsyncIterator[HttpResponse]:
        """See `http.Carrier`."""
        async with self._slots:
            connection = self._kept(url) or await self._opened(url)
            reached()
            try:
                yield await connection.ask(method, url, headers, content)
            finally:
                if connection.is_free:
                    connection.waits_since = time.monotonic()
                    self._idle.setdefault((url.scheme, *url.address), []).append(connection)
                else:
                    connection.close()

    def expect_tls(self) -> None:
        """Reads the trusted authorities in a thread: the first request over HTTPS waits less for them."""
        if self._context is None:
            self._context = asyncio.create_task(asyncio.to_thread(self._tls), name="trusted authorities")

    async def aclose(self) -> None:
        """Closes what waits."""
        if self._context is not None:
            await asyncio.gather(self._context, return_exceptions=True)
            self._context = None
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        # The event loop lets go of a closed socket in its next turn.
        await asyncio.sleep(0)

    def _kept(self, url: Url) -> _KeptConnection | None:
        waiting = self._idle.get((url.scheme, *url.address), [])
        while waiting:
            connection = waiting.pop()
            if not connection.has_ended:
                return connection
            connection.close()
        return None

    async def _opened(self, url: Url) -> _KeptConnection:
        loop = asyncio.get_running_loop()
        reader = _UnbrokenReader(limit=_MAX_HEAD_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        context = await self._trusted() if url.scheme == "https" else None
        host, port = url.address
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                transport, _ = await loop.create_connection(
                    lambda: protocol, host, port, ssl=context, happy_eyeballs_delay=0.25
                )
        except TimeoutError as error:
            raise TimeoutError(f"no connection within {_CONNECT_TIMEOUT_S:.0f} s") from error
        except UnicodeError as error:
            raise ValueError("no host is called so") from error
        return _KeptConnection(
            reader, asyncio.StreamWriter(transport, protocol, reader, loop), self._timeout_s
        )

    async def _trusted(self) -> ssl.SSLContext:
        self.expect_tls()
        assert self._context is not None
        return await asyncio.shield(self._context)  # others may wait for it, too


class _KeptConnection:
    """Carries one exchange after another."""

    def __init__(self, reader: _UnbrokenReader, writer: asyncio.StreamWriter, timeout_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_s = timeout_s
        self.waits_since = 0.0
        #: Whether the last answer was read to its end and the server keeps the connection.
        self.is_free = False

    @property
    def has_ended(self) -> bool:
        """Whether it is of no use any more: nothing is due on a connection that waits."""
        if self._reader.at_eof() or self._writer.is_closing() or self._reader.broken:
            return True
        if time.monotonic() - self.waits_since > _KEPT_S:
            return True
        waiting = select.poll()
        waiting.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        """Closes it; nothing of ours is still to be sent by then."""
        # Not in good order over TLS: who doesn't answer a farewell would be waited for.
        self._writer.transport.abort()

    async def ask(self, method: str, url: Url, headers: Mapping[str, str], content: Body) -> HttpResponse:
        """Sends a request, and reads the head of its answer."""
        self.is_free = False
        # Where nobody reads on, the answer may say why.
        with suppress(ConnectionError):
            await self._write(_head(method, url, headers, content), content)
        status, found = await self._read_head()
        keeps = found.get("connection").lower() != "close"
        if method == "HEAD" or status in _WITHOUT_BODY or found.get("content-length") == "0":
            self.is_free = keeps
            return HttpResponse(method, url, status, found, _nothing())
        return HttpResponse(method, url, status, found, self._pieces(found, keeps=keeps))

    async def _write(self, head: bytes, content: Body) -> None:
        if content is None or len(content) <= PIECE_BYTES:
            self._writer.write(head + bytes(content or b""))
            await self._drained()
            return
        self._writer.write(head)
        # A little at a time: sent as a whole, the transport would copy all of it.
        for start in range(0, len(content), PIECE_BYTES):
            self._writer.write(bytes(content[start : start + PIECE_BYTES]))
            await self._drained()

    async def _drained(self) -> None:
        async with self._in_time():
            await self._writer.drain()

    async def _read_head(self) -> tuple[int, Headers]:
        while True:
            async with self._in_time():
                try:
                    text = await self._reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError as error:
                    if self._reader.broken:
                        raise self._reader.broken from None
                    raise EOFError("it closed the connection without an answer") from error
                except asyncio.LimitOverrunError as error:
                    raise ValueError("its headers have no end") from error
            status, headers = _parsed(text)
            if status >= 200:
                return status, headers

    async def _pieces(self, headers: Headers, *, keeps: bool) -> AsyncIterator[bytes]:
        if "transfer-encoding" in headers:
            while left := _chunk_size(await self._line()):
                async for piece in self._exactly(left):
                    yield piece
                await self._line()
            while await self._line():
                pass  # trailers
        elif "content-length" in headers:
            async for piece in self._exactly(int(headers.get_list("content-length")[0])):
                yield piece
        else:
            # The end of the connection is that of the body.
            keeps = False
            while piece := await self._some(PIECE_BYTES):
                yield piece
            if self._reader.broken:
                raise self._reader.broken
        self.is_free = keeps

    async def _line(self) -> bytes:
        async with self._in_time():
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise self._reader.broken or EOFError("it closed the connection in the middle of an answer")
        return line.strip()

    async def _exactly(self, left: int) -> AsyncIterator[bytes]:
        while left:
            piece = await self._some(min(left, PIECE_BYTES))
            if not piece:
                raise self._reader.broken or EOFError("it closed the connection in the middle of an answer")
            left -= len(piece)
            yield piece

    async def _some(self, most: int) -> bytes:
        async with self._in_time():
            return await self._reader.read(most)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise TimeoutError("no answer in time") from error


def _head(method: str, url: Url, headers: Mapping[str, str], content: Body) -> bytes:
    lines = [f"{method} {url.target} HTTP/1.1", f"Host: {url.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if content is not None:
        lines.append(f"Content-Length: {len(content)}")
    text = "\r\n".join((*lines, "", ""))
    if text.count("\n") != len(lines) + 1 or "\0" in text:
        raise ValueError("a header has a line break in it")
    return text.encode("latin-1")


def _parsed(head: bytes) -> tuple[int, Headers]:
    """Status and headers; ValueError for what is none."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ValueError(f"it doesn't speak HTTP: {first[:80]!r}")
    headers = Headers(_field(line) for line in lines)
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise ValueError(f"Transfer-Encoding: {headers.get('transfer-encoding')[:80]}")
    lengths = set(headers.get_list("content-length"))
    if len(lengths) > 1 or not all(length.isdecimal() for length in lengths):
        raise ValueError("a Content-Length that is no number")
    return int(rest[:3]), headers


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise ValueError(f"a header that is none: {line[:80]!r}")
    return name, value.strip()


def _chunk_size(line: bytes) -> int:
    text = line.partition(b";")[0].strip()
    if not text.isalnum():  # a sign would be a number to int()
        raise ValueError(f"a chunk without a size: {line[:80]!r}")
    return int(text, 16)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
