"""Takes connections, and bounds what they may cost whoever is behind them.

Any program of the machine can connect to the TCP port. Connections that haven't shown the token have few
places and little time, and the oldest of them makes room for the next: whoever has the token gets in. All
connections together leave the daemon the descriptors that it needs (docs/adr/0016).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import resource
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Protocol

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

#: Request line and headers; a selector of a thousand clauses fits.
MAX_HEAD_BYTES = 64 * 1024
#: From the first byte of a request to the end of its headers.
HEAD_TIMEOUT_S = 10.0
#: From the connection to the first request with a token, the TLS handshake included.
UNKNOWN_TIMEOUT_S = 10.0
#: From the client's last byte to the end of the answer that it still reads.
END_TIMEOUT_S = 30.0
#: Connections without a token at a time: each has 280 kB of TLS buffers.
MAX_UNKNOWN = 64
MAX_CONNECTIONS = 1024
#: Without descriptors or memory, accept(2) would fail as often as it is called.
ACCEPT_PAUSE_S = 0.25
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def max_connections() -> int:
    """Connections in all: no more than a quarter of the descriptors that the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, soft // 4))


@dataclass(frozen=True)
class _Unknown:
    """A connection that hasn't shown a token: the task that opens it, and the timer that ends it."""

    opening: asyncio.Task[None]
    timer: asyncio.TimerHandle


class Acceptor:
    """Takes the connections of a listener while there are places; one that is taken is the server's.

    Args:
        listener: non-blocking from now on; stays the caller's.
        server: whose protocol and application answer.
        context: None serves HTTP without TLS.
        trusted: whoever can connect has shown who they are.
        limit: connections in all.
    """

    def __init__(
        self,
        listener: socket.socket,
        server: uvicorn.Server,
        context: ssl.SSLContext | None,
        *,
        trusted: bool,
        limit: int,
    ) -> None:
        self._listener = listener
        self._server = server
        self._context = context
        self._trusted = trusted
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._connections: set[BoundedProtocol] = set()
        self._unknown: dict[BoundedProtocol, _Unknown] = {}  # the oldest first
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Takes no more connections, and begins to end those whose TLS handshake is going on."""
        self._closed = True
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        for task in self._opening:
            task.cancel()

    async def wait_closed(self) -> None:
        """Waits until they have ended; the others are the server's to end."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def identify(self, protocol: BoundedProtocol) -> None:
        """This connection has shown who is behind it."""
        if (unknown := self._unknown.pop(protocol, None)) is not None:
            unknown.timer.cancel()

    def leave(self, protocol: BoundedProtocol) -> None:
        """This connection has ended."""
        self.identify(protocol)
        self._connections.discard(protocol)
        self._listen()

    def _listen(self) -> None:
        if self._closed:  # the listener may be closed, too, before the last connection ends
            return
        if self._pause is not None or len(self._connections) >= self._limit:
            self._loop.remove_reader(self._listener)
        else:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # or the client is gone already
            if error.errno in _EXHAUSTED:
                self._pause = self._loop.call_later(ACCEPT_PAUSE_S, self._resume)
                self._listen()
            return
        connection.setblocking(False)
        if len(self._unknown) >= min(MAX_UNKNOWN, self._limit):
            self._drop(next(iter(self._unknown)))
        protocol = BoundedProtocol(self._server, self)
        opening = self._loop.create_task(self._open(protocol, connection), name="api-connection")
        self._opening.add(opening)
        opening.add_done_callback(lambda task: self._opened(task, protocol, connection))
        self._connections.add(protocol)
        if not self._trusted:
            timer = self._loop.call_later(UNKNOWN_TIMEOUT_S, self._drop, protocol)
            self._unknown[protocol] = _Unknown(opening, timer)
        self._listen()

    def _resume(self) -> None:
        self._pause = None
        self._listen()

    async def _open(self, protocol: BoundedProtocol, connection: socket.socket) -> None:
        protocol.has_socket = True
        # Not TLS, or gone before its end: whoever it was knows.
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
            return
        self.leave(protocol)

    def _opened(self, task: asyncio.Task[None], protocol: BoundedProtocol, connection: socket.socket) -> None:
        self._opening.discard(task)
        if task.cancelled():
            self.leave(protocol)
            if not protocol.has_socket:  # it was cancelled before its first step
                connection.close()

    def _drop(self, protocol: BoundedProtocol) -> None:
        self._unknown[protocol].opening.cancel()
        self.leave(protocol)
        protocol.abort()


class Upgraded(Protocol):
    """What speaks on a connection from the end of HTTP on."""

    def data_received(self, data: bytes) -> None:
        """The client sent this."""
        ...

    def connection_lost(self) -> None:
        """The client has left, or sends no more."""
        ...


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on the head of a request, and on the time until one has a token.

    The application calls `scope["identified"]` for a request that shows who it is from, and
    `scope["upgrade"]` to speak something else than HTTP from now on, see `upgrade`.
    """

    def __init__(self, server: uvicorn.Server, acceptor: Acceptor) -> None:
        super().__init__(config=server.config, server_state=server.server_state, app_state={})
        #: Whether closing the socket is this protocol's transport's.
        self.has_socket = False
        self._acceptor = acceptor
        #: Bytes since the last piece of a body: of a head, or of the trailers behind a body.
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        #: Whether a request came while another is being answered.
        self._pipelined = False
        self._upgraded: Upgraded | None = None

    def upgrade(self, upgraded: Upgraded) -> tuple[asyncio.Transport, FlowControl]:
        """Hands the connection over: HTTP is over, the rest is between the client and `upgraded`."""
        self._upgraded = upgraded
        if self.cycle is None:  # the client has left meanwhile
            self.loop.call_soon(upgraded.connection_lost)
        else:
            # As if it had: uvicorn expects no answer of the application.
            self.cycle.disconnected = True
            self.flow.resume_reading()
        return self.transport, self.flow

    def abort(self) -> None:
        """Ends the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        for timer in (self._head_timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        self._acceptor.leave(self)
        super().connection_lost(exc)
        if self._upgraded is not None:
            self._upgraded.connection_lost()
            self._upgraded = None
        # uvicorn cancels it only where the client said that it leaves, and it would hold the TLS buffers.
        self._unset_keepalive_if_required()
        # A request knows the protocol and is known by it. Cut apart, both go now and not with the next
        # garbage collection: an idle daemon has few.
        unset: Any = None
        self.scope = self.cycle = unset

    def eof_received(self) -> None:
        """The client sends no more: asyncio ends the connection, but waits for the answer to be read."""
        if self._upgraded is not None:
            self._upgraded.connection_lost()
        self._end_timer = self.loop.call_later(END_TIMEOUT_S, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """Reads on, and counts what is no body."""
        if self._upgraded is not None:
            self._upgraded.data_received(data)
            return
        if self._pipelined:
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins.

        One behind another that is being answered isn't taken: uvicorn would read no further, and so nobody
        would learn that the client of a watch has left. Its connection ends with the answer.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self._pipelined = True
            self.cycle.keep_alive = False
            raise ValueError("one request at a time")
        super().on_message_begin()
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too large")
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().on_headers_complete()
        scope: Any = self.scope
        scope["identified"] = functools.partial(self._acceptor.identify, self)
        scope["upgrade"] = self.upgrade

    def on_body(self, body: bytes) -> None:
        """A piece of its body is there: the application bounds these."""
        self._head_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no request, or has too large a head; uvicorn calls it for the first."""
        if self._pipelined:
            return
        code, text = 400, b"this is no HTTP request"
        if self._head_bytes > MAX_HEAD_BYTES:
            code, text = 431, b"the request line and headers are limited to %d bytes" % MAX_HEAD_BYTES
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[code] + head % len(text) + text)
        self.transport.close()
