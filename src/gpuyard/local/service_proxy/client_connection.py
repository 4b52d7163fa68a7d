"""One connection of a client: it reads requests, and has them answered one after another."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from gpuyard.local.service_proxy.exchange import Exchange
from gpuyard.local.service_proxy.figures import Figures
from gpuyard.local.service_proxy.heads import ProxiedRequest, ProxyRefusal, forwarded_request
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.replica_connection import ReplicaConnection
from gpuyard.local.service_proxy.replicas import Replicas

#: Requests that a client may send before the first of them is answered; what follows is left unread.
_MAX_PIPELINED = 16
#: A client that was refused in the middle of its request may read why for so long.
_LINGER_S = 5.0
_NO_REQUEST = ProxiedRequest(
    b"GET", b"", is_chunked=False, upgrade=False, is_idempotent=False, is_http_1_0=False
)
_SLOW = ProxyRefusal(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to come")


class ConnectionOwner(Protocol):
    """Whose connections these are: one port of a Service."""

    replicas: Replicas
    figures: Figures
    limits: ProxyLimits
    #: Whether connections end with what they have under way.
    is_draining: bool

    def left(self, connection: ClientConnection) -> None:
        """It has ended."""


class ClientConnection(asyncio.Protocol):
    """Owns the connection. Reads no further while what it has read can't go on."""

    transport: asyncio.Transport

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._limits = owner.limits
        self._loop = asyncio.get_running_loop()
        self._peer = b""
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        #: Bytes that came for the head that is being read, or since the last piece of a body: trailers.
        self._head_bytes = 0
        self._in_head = False
        #: The one whose body is being read.
        self._reading: Exchange | None = None
        #: The first is being answered, once it was started.
        self._exchanges: deque[Exchange] = deque()
        self._started: Exchange | None = None
        #: What came behind a request for another protocol; None without such a request.
        self._behind: bytearray | None = None
        self._tunnel: ReplicaConnection | None = None
        #: Of a tunnel: whether the client, and whether the replica, has said that it sends no more.
        self._is_read = self._is_written = False
        #: What comes is read no more: the last answer is on its way, or the client was refused.
        self._is_deaf = self._was_refused = False
        #: Whether nothing is read at the moment; whether the exchange wants that.
        self._is_holding = self._is_held = False
        self._is_full = False
        self._unsent_bytes = 0
        self._unread_deadline = self._deadline = math.inf

    # What an exchange does with it.

    @property
    def is_full(self) -> bool:
        """See `exchange.Client`."""
        return self._is_full

    def write(self, data: bytes) -> None:
        """See `exchange.Client`."""
        self.transport.write(data)

    def hold_request(self, hold: bool) -> None:
        """See `exchange.Client`."""
        self._is_held = hold
        self._hold()

    def exchange_over(self) -> None:
        """See `exchange.Client`."""
        exchange = self._exchanges.popleft()
        self._is_held = False
        self._deadline = self._loop.time() + self._limits.idle_s
        if exchange.is_last or (self._owner.is_draining and not self._exchanges):
            self._end()
        elif self._exchanges:
            self._loop.call_soon(self._start_next)
        elif self._behind is not None:
            self._go_on_with_http()
        self._hold()

    def cut(self) -> None:
        """See `exchange.Client`."""
        exchange = self._exchanges[0]
        if exchange.request.is_http_1_0:
            self.transport.abort()  # else it would look as if the answer ended here
        else:
            self.transport.close()

    def start_tunnel(self, other: ReplicaConnection) -> ClientConnection:
        """See `exchange.Client`."""
        self._tunnel = other
        self._deadline = math.inf
        self._parser = None
        if self._behind:
            other.tunnel_write(bytes(self._behind))
        self._behind = None
        self._is_held = False
        self._hold()
        return self

    # The other end of a tunnel.

    def tunnel_write(self, data: bytes) -> None:
        """See `replica_connection.TunnelEnd`."""
        self.transport.write(data)

    def tunnel_eof(self) -> None:
        """See `replica_connection.TunnelEnd`."""
        self._is_written = True
        if self._is_read:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()

    def tunnel_hold(self, hold: bool) -> None:
        """See `replica_connection.TunnelEnd`."""
        self.hold_request(hold)

    def tunnel_lost(self) -> None:
        """See `replica_connection.TunnelEnd`."""
        self._tunnel = None
        self._is_deaf = True
        self.transport.close()

    # What its owner does with it.

    def sweep(self, now: float) -> None:
        """Ends it where the client is too slow."""
        if self._is_full:
            self._look_at_reading(now)
        if now < self._deadline:
            return
        if self._is_holding:
            self._deadline = now + self._limits.body_s
        elif self._reading is not None and not self._reading.is_over:
            self._fail(self._reading, _SLOW)
        elif self._in_head and not self._exchanges:
            self._refuse(_SLOW)
            self._start_next()
        elif not self._exchanges:
            self.transport.abort()

    def drain(self) -> None:
        """Ends it when what is under way is answered."""
        if self._exchanges:
            self._exchanges[-1].is_last = True
        elif not self._in_head:
            self.transport.close()

    def _look_at_reading(self, now: float) -> None:
        """Gives a client up that takes nothing, not one that takes little."""
        size = self.transport.get_write_buffer_size()
        if size < self._unsent_bytes:
            self._unread_deadline = now + self._limits.unread_s
        elif now >= self._unread_deadline:
            self.transport.abort()
        self._unsent_bytes = size

    # Of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self.transport = cast(asyncio.Transport, transport)
        self._peer = str((transport.get_extra_info("peername") or ("",))[0]).encode()
        self._deadline = self._loop.time() + self._limits.head_s

    def data_received(self, data: bytes) -> None:
        """Reads on."""
        if self._tunnel is not None:
            self._tunnel.tunnel_write(data)
        elif self._behind is not None:
            self._behind += data
            self._hold()
        elif not self._is_deaf:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        assert self._parser is not None
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._behind = bytearray(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            sentence = f"this is no request of HTTP/1.1: {error}"
            self._refuse_rest(ProxyRefusal(HTTPStatus.BAD_REQUEST, sentence))
        if self._head_bytes > self._limits.head_bytes:
            self._refuse_rest(self._too_large())
        if self._exchanges:
            first = self._exchanges[0]
            if first is self._started:
                first.flush()
            else:
                self._start_next()
                if self._reading is first:
                    first.flush()
        if self._reading is not None and not self._reading.is_over:
            self._deadline = self._loop.time() + self._limits.body_s
        self._hold()

    def eof_received(self) -> bool:
        """The client sends no more: outside of tunnels it has left."""
        if self._tunnel is not None:
            self._is_read = True
            self._tunnel.tunnel_eof()
            return not self._is_written
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if self._tunnel is not None:
            self._tunnel.tunnel_lost()
            self._tunnel = None
        self._is_deaf = True
        for exchange in self._exchanges:
            exchange.abandon()
        self._exchanges.clear()
        self._parser = self._reading = None  # they know us: cut apart, all go now
        self._owner.left(self)

    def pause_writing(self) -> None:
        """The client doesn't keep up."""
        self._is_full = True
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._unread_deadline = self._loop.time() + self._limits.unread_s
        self._hold_source()

    def resume_writing(self) -> None:
        """It does again."""
        self._is_full = False
        self._hold_source()

    def _hold_source(self) -> None:
        if self._tunnel is not None:
            self._tunnel.tunnel_hold(self._is_full)
        elif self._exchanges:
            self._exchanges[0].hold_answer(self._is_full)

    # Of the parser.

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._is_deaf:
            return
        self._in_head = True
        self._url = b""
        self._headers = []
        if not self._exchanges:
            self._deadline = self._loop.time() + self._limits.head_s

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer, where the body has begun: those go nowhere."""
        if self._in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        parser = self._parser
        if self._is_deaf or parser is None:
            return
        head_bytes, self._head_bytes = self._head_bytes, 0
        method, version = parser.get_method(), parser.get_http_version()
        request = forwarded_request(method, self._url, version, self._headers, self._peer)
        if isinstance(request, ProxiedRequest) and len(request.head) > self._limits.head_bytes < head_bytes:
            request = self._too_large()
        if isinstance(request, ProxyRefusal):
            self._refuse(request)
            return
        is_last = request.is_http_1_0 or not parser.should_keep_alive()
        self._reading = self._add(request, is_last=is_last or len(self._exchanges) + 1 == _MAX_PIPELINED)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._head_bytes = 0
        if self._reading is not None:
            self._reading.body(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange, self._reading = self._reading, None
        self._head_bytes = 0
        if exchange is None:
            return
        exchange.body_ended()
        if self._exchanges:
            self._deadline = math.inf
        if exchange.is_last:
            self._is_deaf = True

    # What follows from all that.

    def _add(
        self, request: ProxiedRequest, *, is_last: bool, refusal: ProxyRefusal | None = None
    ) -> Exchange:
        owner = self._owner
        exchange = Exchange(
            self,
            request,
            owner.replicas,
            owner.figures,
            self._limits,
            is_last=is_last or owner.is_draining,
            refusal=refusal,
        )
        self._exchanges.append(exchange)
        return exchange

    def _start_next(self) -> None:
        """Begins with the first request, when all that came of it by now is known: it goes in one piece."""
        if self._exchanges and self._exchanges[0] is not self._started:
            self._started = self._exchanges[0]
            self._started.start()

    def _hold(self) -> None:
        """Reads no further while there is too much that can't go on."""
        is_ahead = len(self._exchanges) > 1
        is_behind = self._behind is not None and len(self._behind) > self._limits.kept_body_bytes
        hold = self._is_held or is_ahead or is_behind
        if hold != self._is_holding and not self.transport.is_closing():
            self._is_holding = hold
            if hold:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _refuse_rest(self, refusal: ProxyRefusal) -> None:
        """What comes is no HTTP, is such that two readers may understand it differently, or has no end."""
        if self._is_deaf:
            return
        if self._reading is None:
            self._refuse(refusal)
        else:
            self._fail(self._reading, refusal)

    def _fail(self, exchange: Exchange, refusal: ProxyRefusal) -> None:
        """Answers a request that will never be whole."""
        self._is_deaf = self._was_refused = True
        if exchange.is_over:
            self._end()
        elif exchange is self._started:
            exchange.refuse(refusal)
        else:
            exchange.refusal = refusal

    def _refuse(self, refusal: ProxyRefusal) -> None:
        """Answers what is no request that can go on, after those before it; nothing more is read."""
        self._is_deaf = self._was_refused = True
        self._in_head = False
        self._add(_NO_REQUEST, is_last=True, refusal=refusal)

    def _too_large(self) -> ProxyRefusal:
        sentence = f"request line, headers and trailers are limited to {self._limits.head_bytes >> 10} KiB"
        return ProxyRefusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, sentence)

    def _go_on_with_http(self) -> None:
        """The replica didn't agree to another protocol: what comes behind that request is the next one."""
        behind, self._behind = bytes(self._behind or b""), None
        self._parser = httptools.HttpRequestParser(self)
        if behind:
            self._loop.call_soon(self.data_received, behind)

    def _end(self) -> None:
        """The last answer is written. Who is still sending shall be able to read it."""
        is_sending = self._reading is not None or self._was_refused
        self._is_deaf = True
        if is_sending and not self.transport.is_closing():
            self.transport.write_eof()
            self._deadline = self._loop.time() + _LINGER_S
        else:
            self.transport.close()
