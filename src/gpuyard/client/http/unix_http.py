"""HTTP/1.1 to a yard's unix socket. Source: RFC 9112.

Both ends are ours, so that it needs no more than this; a library for it costs each command as much time as
all the rest of what it does (docs/adr/0011).
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from gpuyard import errors
from gpuyard.client.http.exchange import CONNECT_TIMEOUT_S, ClientRequest, ClientResponse

_MAX_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 1 << 18


class UnixHttp:
    """Implements `client.http.exchange.Http`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._idle: list[_UnixConnection] = []
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

    async def _asked(self, request: ClientRequest) -> tuple[_UnixConnection, ClientResponse]:
        kept = self._kept()
        if kept is not None:
            try:
                return kept, await kept.ask(request)
            except errors.ConnectionFailed as error:
                # The server may close a connection that waits just as the next request is on its way.
                if request.method != "GET" or isinstance(error, errors.Stalled):
                    raise
        opened = await self._opened()
        return opened, await opened.ask(request)

    def _kept(self) -> _UnixConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_ended:
                return connection
            connection.close()
        return None

    async def _opened(self) -> _UnixConnection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                opened = await asyncio.open_unix_connection(self._socket, limit=_MAX_HEAD_BYTES)
        except ConnectionRefusedError as error:
            raise _silent(self._socket, "nothing listens there (connection refused)") from error
        except TimeoutError as error:
            raise _silent(self._socket, f"no connection within {CONNECT_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise _silent(self._socket, error.strerror or str(error)) from error
        return _UnixConnection(self._socket, *opened)


class _UnixConnection:
    """One connection; carries one exchange after another."""

    def __init__(self, socket: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._socket = socket
        self._reader = reader
        self._writer = writer
        #: Whether the last answer was read to its end and the server keeps the connection.
        self.is_free = True
        self._wire: UnixWire | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the server closed it, be it a moment ago: nothing is due on a connection that waits."""
        if self._reader.at_eof() or self._writer.is_closing():
            return True
        waiting = select.poll()
        waiting.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        """Closes it; nothing of ours is still to be sent by then."""
        self._writer.close()
        if self._wire:
            self._wire.close()

    async def ask(self, request: ClientRequest) -> ClientResponse:
        """Sends the request and reads the answer's head."""
        self.is_free = False
        try:
            async with self._step(request):
                self._writer.write(_head(request) + (request.content or b""))
                await self._writer.drain()
                status, headers = _parsed(await self._reader.readuntil(b"\r\n\r\n"))
        except BaseException:
            self.close()
            raise
        if status == 101:
            self._wire = await UnixWire.take(self._socket, self._reader, self._writer)
        return ClientResponse(request.path, status, headers, self._pieces(request, headers), self._wire)

    async def _pieces(self, request: ClientRequest, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        if "transfer-encoding" in headers:
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
                    await self._reader.readexactly(2)
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
        self.is_free = headers.get("connection", "").lower() != "close"

    async def _exactly(self, request: ClientRequest, left: int) -> AsyncIterator[bytes]:
        while left:
            async with self._step(request):
                piece = await self._reader.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise EOFError
            left -= len(piece)
            yield piece

    @asynccontextmanager
    async def _step(self, request: ClientRequest) -> AsyncIterator[None]:
        """Bounds one step of an exchange, and says in our words what went wrong with it."""
        try:
            async with asyncio.timeout(request.silence_timeout_s):
                yield
        except TimeoutError as error:
            raise errors.Stalled(
                f"the API at {self._socket} doesn't answer: nothing for {request.silence_timeout_s:.0f} s",
                remedy="it may be overloaded: try again in a while",
            ) from error
        except (EOFError, ConnectionError) as error:
            raise _silent(self._socket, "it cut the connection") from error
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise _silent(self._socket, f"what answers there doesn't speak HTTP ({error})") from error


class UnixWire:
    """Implements `client.http.exchange.Wire`: the socket itself, since asyncio's streams copy all twice."""

    def __init__(self, path: Path, connected: socket.socket, read_already: bytes) -> None:
        self._path, self._socket, self._read_already = path, connected, read_already

    @classmethod
    async def take(cls, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> UnixWire:
        """Takes the connection over from asyncio; it ends with the writer."""
        transport = writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        reader.feed_eof()
        read_already = await reader.read()
        ours = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        ours.setblocking(False)
        return cls(path, ours, read_already)

    async def read(self, most_bytes: int) -> bytes:
        """See `Wire.read`."""
        if self._read_already:
            first, self._read_already = self._read_already[:most_bytes], self._read_already[most_bytes:]
            return first
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, most_bytes)
        except ConnectionError as error:
            raise _silent(self._path, "it cut the connection") from error

    async def write(self, data: bytes) -> None:
        """See `Wire.write`."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except ConnectionError as error:
            raise _silent(self._path, "it cut the connection") from error

    def close(self) -> None:
        """Lets go of it."""
        self._socket.close()


def _head(request: ClientRequest) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", "Host: localhost", f"Accept: {request.accept}"]
    lines += [f"{name}: {value}" for name, value in request.upgrade.items()]
    if request.content is not None:
        lines += [f"Content-Type: {request.content_type}", f"Content-Length: {len(request.content)}"]
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers; ValueError for what is none."""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(first[:80])
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise ValueError(f"Transfer-Encoding: {headers['transfer-encoding'][:80]}")
    if not headers.get("content-length", "0").isdecimal():
        raise ValueError("a Content-Length that is no number")
    return int(rest.split(" ", 1)[0]), headers


def _silent(socket: Path, reason: str) -> errors.ConnectionFailed:
    return errors.ConnectionFailed(f"the API at {socket} doesn't answer: {reason}")


def _size(line: bytes) -> int:
    """The size of a chunk; ValueError for what is none."""
    text = line.partition(b";")[0].strip()
    if not text.isalnum():  # a sign would be a number to int()
        raise ValueError(line[:80])
    return int(text, 16)
