"""One connection to a replica: it carries one request at a time, and reads its answer."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import suppress
from typing import Protocol, cast

import httptools

from gpuyard.local.service_proxy.endpoints import ServiceReplica
from gpuyard.local.service_proxy.heads import Framing, ReplicaAnswer, read_answer

_PIECE_BYTES = 64 << 10


class AnswerReader(Protocol):
    """Who asked. After `answer_ended`, `broke` or `upgraded` nothing more is told."""

    def interim(self, answer: ReplicaAnswer) -> None:
        """An answer of 1xx; the answer itself comes later."""

    def answer_began(self, answer: ReplicaAnswer) -> None:
        """The head is there."""

    def answer_body(self, data: bytes) -> None:
        """A piece of the body."""

    def flush_answer(self) -> None:
        """All that came by now was told."""

    def answer_ended(self, *, reusable: bool) -> None:
        """It is whole; whether the connection takes another request."""

    def broke(self, why: str) -> None:
        """The connection ended before the answer did."""

    def upgraded(self, answer: ReplicaAnswer, rest: bytes) -> None:
        """The replica speaks another protocol from now on, with these first bytes."""

    def hold_request(self, hold: bool) -> None:
        """Whether the replica takes no more at the moment."""


class TunnelEnd(Protocol):
    """The other end of a connection that speaks another protocol by now."""

    def tunnel_write(self, data: bytes) -> None:
        """Sends."""

    def tunnel_eof(self) -> None:
        """Nothing more comes from here."""

    def tunnel_hold(self, hold: bool) -> None:
        """Whether it shall read no further for now."""

    def tunnel_lost(self) -> None:
        """The connection here has ended."""


class ReplicaConnection(asyncio.Protocol):
    """Owns the connection.

    Args:
        replica: at its other end.
        sock: the connection's; to see, right before a request, whether the replica has closed it.
        head_bytes: that an answer's head may have.
    """

    transport: asyncio.Transport

    def __init__(self, replica: ServiceReplica, sock: socket.socket, head_bytes: int) -> None:
        self.replica = replica
        self.kept_since = 0.0
        self._sock = sock
        self._unasked = select.poll()
        self._unasked.register(sock, select.POLLIN | select.POLLRDHUP)
        self._max_head_bytes = head_bytes
        self._reader: AnswerReader | None = None
        self._tunnel: TunnelEnd | None = None
        #: Of a tunnel: whether the replica, and whether the client, has said that it sends no more.
        self._is_read = self._is_written = False
        self._method = b""
        self._begin()

    def _begin(self) -> None:
        """Expects the next answer."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._head_bytes = 0
        self._forget_head()

    def _forget_head(self) -> None:
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._answer: ReplicaAnswer | None = None
        self._is_whole = self._reusable = self._is_stray = False

    # What an exchange does with it.

    def ask(self, reader: AnswerReader, method: bytes) -> None:
        """Begins a request, which `write` sends; its answer goes to the reader."""
        self._forget_head()
        self._reader = reader
        self._method = method

    def write(self, data: bytes) -> None:
        """Sends a part of the request."""
        self.transport.write(data)

    def hold_answer(self, hold: bool) -> None:
        """Whether nothing more shall be read for now."""
        if not self.transport.is_closing():
            if hold:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def is_fresh(self) -> bool:
        """Whether the replica still has it open and has said nothing unasked."""
        if self.transport.is_closing():
            return False
        return not self._unasked.poll(0)

    def close(self) -> None:
        """Ends it; nothing more is told."""
        self._reader = self._tunnel = None
        self.transport.abort()

    def start_tunnel(self, other: TunnelEnd) -> None:
        """From now on bytes go to the other end as they come."""
        self._tunnel = other

    # The other end of a tunnel.

    def tunnel_write(self, data: bytes) -> None:
        """See `TunnelEnd`."""
        self.transport.write(data)

    def tunnel_eof(self) -> None:
        """See `TunnelEnd`."""
        self._is_written = True
        if self._is_read:
            self.transport.close()
        elif not self.transport.is_closing():
            self.transport.write_eof()

    def tunnel_hold(self, hold: bool) -> None:
        """See `TunnelEnd`."""
        self.hold_answer(hold)

    def tunnel_lost(self) -> None:
        """See `TunnelEnd`."""
        self._tunnel = None
        self.transport.close()

    # Of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Reads on."""
        if self._tunnel is not None:
            self._tunnel.tunnel_write(data)
            return
        if self._reader is None or self._parser is None:
            self.transport.abort()  # nobody asked
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if not self._is_whole:
                self._break(f"its answer is no HTTP ({error})")
                return
            self._reusable = False
        self._after_piece()

    def _after_piece(self) -> None:
        reader = self._reader
        if reader is None:
            return
        if self._head_bytes > self._max_head_bytes:
            kib = self._max_head_bytes >> 10
            self._break(f"the head of its answer, or what follows the body, has more than {kib} KiB")
            return
        if self._answer is not None:
            reader.flush_answer()
        if self._is_whole:
            self._end()

    def _end(self) -> None:
        reader, self._reader = self._reader, None
        reusable = self._reusable and not self._is_stray and not self.transport.is_closing()
        answer = self._answer
        assert reader is not None and answer is not None
        if reusable and answer.framing is Framing.NO_BODY:
            self._begin()  # llhttp may wait for the body that this answer doesn't have
        reader.answer_ended(reusable=reusable)

    def _upgrade(self, rest: bytes) -> None:
        reader, answer = self._reader, self._answer
        if reader is None or answer is None:
            self._break("it agreed to another protocol without being asked")
            return
        self._reader = self._parser = None
        reader.upgraded(answer, rest)

    def _break(self, why: str) -> None:
        reader, self._reader = self._reader, None
        self.transport.abort()
        if reader is not None:
            reader.broke(why)

    def eof_received(self) -> bool:
        """The replica sends no more."""
        if self._tunnel is not None:
            self._is_read = True
            self._tunnel.tunnel_eof()
            return not self._is_written
        if self._answer is not None and self._answer.framing is Framing.UNTIL_CLOSE:
            self._is_whole = True
            self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if self._tunnel is not None:
            tunnel, self._tunnel = self._tunnel, None
            tunnel.tunnel_lost()
        if self._reader is not None and exc is not None:
            self._read_rest()
        if self._reader is not None:
            self._break("it closed the connection")
        self._parser = None  # it knows us: cut apart, both go now

    def _read_rest(self) -> None:
        """What the replica said before it closed: it may have answered without reading all of the request."""
        with suppress(OSError):
            while self._reader is not None and (data := self._sock.recv(_PIECE_BYTES, socket.MSG_DONTWAIT)):
                self.data_received(data)

    def pause_writing(self) -> None:
        """The replica doesn't keep up."""
        self._hold_source(True)

    def resume_writing(self) -> None:
        """It does again."""
        self._hold_source(False)

    def _hold_source(self, hold: bool) -> None:
        if self._tunnel is not None:
            self._tunnel.tunnel_hold(hold)
        elif self._reader is not None:
            self._reader.hold_request(hold)

    # Of the parser.

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self._is_whole or self._reader is None:
            self._is_stray = True
            return
        self._reason, self._headers = b"", []

    def on_status(self, reason: bytes) -> None:
        """A piece of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer, where the body has begun."""
        if self._answer is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._is_stray or self._reader is None or self._parser is None:
            return
        status = self._parser.get_status_code()
        answer = read_answer(self._method, status, self._reason, self._headers)
        if answer is None:
            self._break("the end of its answer can't be known: its Transfer-Encoding isn't chunked")
            return
        self._answer = answer
        if status < 200:
            return
        self._head_bytes = 0
        self._reader.answer_began(answer)
        if answer.framing is Framing.NO_BODY:
            self._message_complete()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._head_bytes = 0
        if self._is_whole or self._is_stray:
            self._is_stray = True
        elif self._reader is not None:
            self._reader.answer_body(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self._is_whole and not self._is_stray:
            self._message_complete()

    def _message_complete(self) -> None:
        answer = self._answer
        if answer is None or self._reader is None or self._parser is None:
            return
        if answer.status == 101:
            return  # HttpParserUpgrade follows
        if answer.status < 200:
            self._answer = None
            self._reader.interim(answer)
            return
        self._is_whole = True
        self._reusable = bool(self._parser.should_keep_alive())
