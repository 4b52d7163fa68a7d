"""HTTP/1.1 to an API that no proxy is on the way to. Source: RFC 9112.

The servers are known, so that it needs no more than this; a library for it costs each command as much time as
all the rest of what it does (docs/adr/0011, 0053).
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import select
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

from gpuyard import errors
from gpuyard.client.http.exchange import CONNECT_TIMEOUT_S, ClientRequest, ClientResponse

_MAX_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: |$)", re.ASCII)
_LENGTH = re.compile(r"[0-9]{1,18}")
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
#: Headers that say where a body ends.
_FRAMING = frozenset({"content-length", "transfer-encoding"})


class Endpoint(Protocol):
    """Where an API listens.

    Attributes:
        headers: of each request, beside what the request itself says.
        prefix: before each path.
        keep_s: how long a connection that waits is trusted to be there still.
    """

    headers: Mapping[str, str]
    prefix: str
    keep_s: float

    async def open(self, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection; heads have at most `limit` bytes. Raises OSError."""
        ...

    def failed(self, error: Exception, *, connecting: bool = False) -> errors.ConnectionFailed:
        """What an error on the way to it means; TimeoutError: nothing came."""
        ...


class SocketEndpoint:
    """Implements `Endpoint` for a yard's unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.headers: Mapping[str, str] = {"Host": "localhost"}
        self.prefix = ""
        self.keep_s = math.inf

    async def open(self, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See `Endpoint.open`."""
        return await asyncio.open_unix_connection(self._path, limit=limit)

    def failed(self, error: Exception, *, connecting: bool = False) -> errors.ConnectionFailed:
        """See `Endpoint.failed`."""
        where = f"the API at {self._path} doesn't answer"
        if isinstance(error, TimeoutError):
            if connecting:
                return errors.ConnectionFailed(f"{where}: no connection within {CONNECT_TIMEOUT_S:.0f} s")
            return errors.Stalled(where, remedy="it may be overloaded: try again in a while")
        if isinstance(error, ConnectionRefusedError):
            return errors.ConnectionFailed(f"{where}: nothing listens there (connection refused)")
        if isinstance(error, EOFError | ConnectionError):
            return errors.ConnectionFailed(f"{where}: it cut the connection")
        if isinstance(error, OSError):
            return errors.ConnectionFailed(f"{where}: {error.strerror or error}")
        return errors.ConnectionFailed(f"{where}: what answers there doesn't speak HTTP ({error})")


class DirectHttp:
    """Implements `client.http.exchange.Http`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._idle: list[_HttpConnection] = []
        self._is_closed = False

    async def connect(self) -> None:
        """Opens the connection that the next request takes.

        Raises:
            ConnectionFailed: nobody listens.
        """
        self._idle.append(await self._opened())

    @asynccontextmanager
    async def send(self, request: ClientRequest) -> AsyncIterator[ClientResponse]:
        """See `Http.send`."""
        connection, answer = await self._asked(request)
        try:
            yield answer
        finally:
            # What was not read to its end would be taken for the beginning of the next answer.
            if connection.is_free and not self._is_closed:
                self._idle.append(connection)
            else:
                connection.close()

    async def aclose(self) -> None:
        """Closes the connections that wait for a next request, and from now on each after its answer."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()
        # The event loop lets go of a closed socket in its next turn.
        await asyncio.sleep(0)

    async def _asked(self, request: ClientRequest) -> tuple[_HttpConnection, ClientResponse]:
        kept = self._kept()
        if kept is not None:
            try:
                return kept, await kept.ask(request)
            except errors.ConnectionFailed as error:
                # The server may close a connection that waits just as the next request is on its way. Other
                # requests than a plain GET, such as one to run a command, may have been carried out.
                if request.method != "GET" or request.upgrade or isinstance(error, errors.Stalled):
                    raise
        opened = await self._opened()
        return opened, await opened.ask(request)

    def _kept(self) -> _HttpConnection | None:
        for connection in [one for one in self._idle if one.has_ended]:
            self._idle.remove(connection)
            connection.close()
        return self._idle.pop() if self._idle else None

    async def _opened(self) -> _HttpConnection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await self._endpoint.open(_MAX_HEAD_BYTES)
        except (OSError, ValueError) as error:  # ValueError: a name that DNS can't have
            raise self._endpoint.failed(error, connecting=True) from error
        return _HttpConnection(self._endpoint, reader, writer)


class _HttpConnection:
    """One connection; carries one exchange after another."""

    def __init__(
        self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._loop_time = asyncio.get_running_loop().time
        self._waits_since = self._loop_time()
        #: Whether the last answer was read to its end and the server keeps the connection.
        self.is_free = True
        self._wire: UnixWire | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the server closed it, be it a moment ago: nothing is due on a connection that waits."""
        if self._reader.at_eof() or self._writer.is_closing():
            return True
        # What came unasked would be taken for the next answer.
        if self._reader._buffer:  # type: ignore[attr-defined] # asyncio has no other way to see it
            return True
        if self._loop_time() - self._waits_since > self._endpoint.keep_s:
            return True
        waiting = select.poll()
        waiting.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        """Closes it; nothing of ours is still to be sent by then."""
        # TLS would wait for the other side's goodbye, which may never come.
        self._writer.transport.abort()
        if self._wire:
            self._wire.close()

    async def ask(self, request: ClientRequest) -> ClientResponse:
        """Sends the request and reads the answer's head."""
        self.is_free = False
        try:
            async with self._step(request):
                self._writer.write(_head(request, self._endpoint) + (request.content or b""))
                await self._writer.drain()
                status, headers = _parsed(await self._reader.readuntil(b"\r\n\r\n"))
                while 100 <= status < 200 and status != 101:  # the answer is still to come
                    status, headers = _parsed(await self._reader.readuntil(b"\r\n\r\n"))
                if status == 101 and not request.upgrade:
                    raise ValueError("another protocol, unasked")
            pieces = self._pieces(request, status, headers)
            if headers.get("content-encoding", "").lower() in ("gzip", "x-gzip"):
                pieces = self._unpacked(pieces)
        except BaseException:
            self.close()
            raise
        wire = await self._take() if status == 101 else None
        return ClientResponse(request.path, status, headers, pieces, wire)

    async def _take(self) -> UnixWire | _StreamWire:
        """The connection, which speaks another protocol from now on."""
        if isinstance(self._endpoint, SocketEndpoint):
            self._wire = await UnixWire.take(self._endpoint, self._reader, self._writer)
            return self._wire
        # Whoever writes waits until all is on its way. At 0 asyncio's TLS waits for more than that.
        self._writer.transport.set_write_buffer_limits(1, 0)
        return _StreamWire(self._endpoint, self._reader, self._writer)

    async def _pieces(
        self, request: ClientRequest, status: int, headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes, None]:
        if status in (204, 304):
            pass
        elif "transfer-encoding" in headers:
            while True:
                async with self._step(request):
                    line = await self._reader.readline()
                    if not line:
                        raise EOFError
                    left = _size(line)
                if not left:
                    break
                async for piece in self._exactly(request, left):
                    yield piece
                async with self._step(request):
                    if await self._reader.readexactly(2) != b"\r\n":
                        raise ValueError("a chunk that is longer than it says")
            async with self._step(request):
                while (await self._reader.readline()).strip():
                    pass  # trailers
        elif "content-length" in headers:
            async for piece in self._exactly(request, int(headers["content-length"])):
                yield piece
        else:
            # The end of the connection is that of the body (RFC 9112, 6.3).
            while True:
                async with self._step(request):
                    piece = await self._reader.read(_PIECE_BYTES)
                if not piece:
                    return
                yield piece
        self._waits_since = self._loop_time()
        self.is_free = "close" not in headers.get("connection", "").lower()

    async def _exactly(self, request: ClientRequest, left: int) -> AsyncIterator[bytes]:
        while left:
            async with self._step(request):
                piece = await self._reader.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise EOFError
            left -= len(piece)
            yield piece

    async def _unpacked(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        import zlib

        unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
        is_empty = True
        async with aclosing(pieces):
            async for packed in pieces:
                is_empty, left = False, packed
                while left and not unpacking.eof:
                    try:
                        piece = unpacking.decompress(left, _PIECE_BYTES)
                    except zlib.error as error:
                        raise self._endpoint.failed(ValueError(f"a body that isn't gzip: {error}")) from error
                    yield piece
                    left = unpacking.unconsumed_tail
        if not (unpacking.eof or is_empty):
            raise self._endpoint.failed(EOFError())

    @asynccontextmanager
    async def _step(self, request: ClientRequest) -> AsyncIterator[None]:
        """Bounds one step of an exchange, and says in our words what went wrong with it."""
        try:
            async with asyncio.timeout(request.silence_timeout_s):
                yield
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise self._endpoint.failed(error) from error


class UnixWire:
    """Implements `client.http.exchange.Wire`: the socket itself, since asyncio's streams copy all twice."""

    def __init__(self, endpoint: Endpoint, connected: socket.socket, read_already: bytes) -> None:
        self._endpoint, self._socket, self._read_already = endpoint, connected, read_already

    @classmethod
    async def take(
        cls, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> UnixWire:
        """Takes the connection over from asyncio; it ends with the writer."""
        transport = writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        reader.feed_eof()
        read_already = await reader.read()
        ours = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        ours.setblocking(False)
        return cls(endpoint, ours, read_already)

    async def read(self, most_bytes: int) -> bytes:
        """See `Wire.read`."""
        if self._read_already:
            first, self._read_already = self._read_already[:most_bytes], self._read_already[most_bytes:]
            return first
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, most_bytes)
        except ConnectionError as error:
            raise self._endpoint.failed(error) from error

    async def write(self, data: bytes) -> None:
        """See `Wire.write`."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except ConnectionError as error:
            raise self._endpoint.failed(error) from error

    def close(self) -> None:
        """Lets go of it."""
        self._socket.close()


class _StreamWire:
    """Implements `client.http.exchange.Wire` for what isn't a plain socket, such as TLS."""

    def __init__(
        self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._endpoint, self._reader, self._writer = endpoint, reader, writer

    async def read(self, most_bytes: int) -> bytes:
        """See `Wire.read`."""
        try:
            return await self._reader.read(most_bytes)
        except OSError as error:
            raise self._endpoint.failed(error) from error

    async def write(self, data: bytes) -> None:
        """See `Wire.write`."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise self._endpoint.failed(error) from error


def _head(request: ClientRequest, endpoint: Endpoint) -> bytes:
    lines = [f"{request.method} {endpoint.prefix}{request.target} HTTP/1.1", f"Accept: {request.accept}"]
    lines += [f"{name}: {value}" for name, value in (*endpoint.headers.items(), *request.upgrade.items())]
    if request.content is not None:
        lines += [f"Content-Type: {request.content_type}", f"Content-Length: {len(request.content)}"]
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers; ValueError for what is none, and for a body whose end isn't sure."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    if not (found := _STATUS_LINE.match(first)):
        raise ValueError(first[:80])
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if name in _FRAMING and headers.get(name, value) != value:
            raise ValueError(f"two of {name}")
        headers[name] = value
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise ValueError(f"Transfer-Encoding: {headers['transfer-encoding'][:80]}")
    if not _LENGTH.fullmatch(headers.get("content-length", "0")):
        raise ValueError("a Content-Length that is no number")
    # An older server closes, and so does one that gives both (RFC 9112, 6.3 and 9.3).
    if found[1] == "0" or headers.keys() >= _FRAMING:
        headers["connection"] = "close"
    return int(found[2]), headers


def _size(line: bytes) -> int:
    """The size of a chunk; ValueError for what is none."""
    text = line.partition(b";")[0].strip()
    if not _SIZE.fullmatch(text):
        raise ValueError(line[:80])
    return int(text, 16)
