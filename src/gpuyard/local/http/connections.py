"""Takes connections, and bounds what they may cost whoever is behind them.

Any program of the machine can connect to the TCP port. Until one has shown the token it has few places,
little time and little memory; and all connections together leave the daemon the descriptors that it needs.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

log = logging.getLogger(__name__)

#: Request line and headers; a selector of a thousand clauses fits.
MAX_HEAD_BYTES = 64 * 1024
#: From the first byte of a request to the end of its headers.
HEAD_TIMEOUT_S = 10.0
#: From the connection to the first request with a token, the TLS handshake included.
UNKNOWN_TIMEOUT_S = 10.0
#: Connections without a token at a time: each has 280 kB of TLS buffers. The next ones wait in the backlog.
MAX_UNKNOWN = 64
MAX_CONNECTIONS = 1024
_ACCEPT_PAUSE_S = 0.25
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def max_connections() -> int:
    """Connections in all: no more than a quarter of the descriptors that the process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, soft // 4))


class Places:
    """The connections of one listener.

    Args:
        trusted: whoever reaches it has shown who they are.
        limit: connections in all.
    """

    def __init__(self, *, trusted: bool, limit: int) -> None:
        self.trusted = trusted
        self._all = asyncio.Semaphore(limit)
        self._unknown = asyncio.Semaphore(min(MAX_UNKNOWN, limit))

    async def take(self) -> Place:
        """The next place; waits until one is free."""
        await self._all.acquire()
        if not self.trusted:
            try:
                await self._unknown.acquire()
            except BaseException:
                self._all.release()
                raise
        return Place(self._all, None if self.trusted else self._unknown)


class Place:
    """What one connection has taken of the limits."""

    def __init__(self, all_: asyncio.Semaphore, unknown: asyncio.Semaphore | None) -> None:
        self._all: asyncio.Semaphore | None = all_
        self._unknown = unknown

    @property
    def is_known(self) -> bool:
        """Whether it has shown who is behind it."""
        return self._unknown is None

    def identify(self) -> None:
        """It has: another one may try."""
        if self._unknown is not None:
            self._unknown.release()
            self._unknown = None

    def leave(self) -> None:
        """The connection has ended."""
        self.identify()
        if self._all is not None:
            self._all.release()
            self._all = None


async def accept(
    listener: socket.socket, server: uvicorn.Server, context: ssl.SSLContext | None, places: Places
) -> None:
    """Takes connections of a listener until cancelled; those that are open are the server's."""
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    async with asyncio.TaskGroup() as opening:
        while True:
            place = await places.take()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                place.leave()
                if error.errno not in _NO_DESCRIPTORS:
                    log.warning("a connection was lost before it was taken: %s", error)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            except BaseException:
                place.leave()
                raise
            opening.create_task(_open(connection, server, context, place), name="api-connection")


async def _open(
    connection: socket.socket, server: uvicorn.Server, context: ssl.SSLContext | None, place: Place
) -> None:
    loop = asyncio.get_running_loop()
    protocol = BoundedProtocol(server, place)
    try:
        await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=context,
            ssl_handshake_timeout=UNKNOWN_TIMEOUT_S if context is not None else None,
        )
    except OSError:  # not TLS, too slow, or gone: whoever it was knows
        place.leave()
    except BaseException:
        place.leave()
        raise


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on the head of a request, and on the time until one has a token.

    The application calls `scope["identified"]` for a request that shows who it is from.
    """

    def __init__(self, server: uvicorn.Server, place: Place) -> None:
        super().__init__(config=server.config, server_state=server.server_state, app_state={})
        self._place = place
        self._head_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._unknown_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is open, TLS included."""
        super().connection_made(transport)
        if not self._place.is_known:
            self._unknown_timer = self.loop.call_later(UNKNOWN_TIMEOUT_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        for timer in (self._head_timer, self._unknown_timer):
            if timer is not None:
                timer.cancel()
        self._place.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on, and counts what comes before the end of the headers."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too large")
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().on_headers_complete()
        scope: Any = self.scope
        scope["identified"] = self._identified

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no request, or has too large a head; uvicorn calls it for the first."""
        code, text = 400, b"this is no HTTP request"
        if self._head_bytes > MAX_HEAD_BYTES:
            code, text = 431, b"the request line and headers are limited to %d bytes" % MAX_HEAD_BYTES
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[code] + head % len(text) + text)
        self.transport.close()

    def _identified(self) -> None:
        self._place.identify()
        if self._unknown_timer is not None:
            self._unknown_timer.cancel()
