"""One WebSocket, from the handshake to the close: whole messages in, frames out. Source: RFC 6455.

Frames that come in are read by the library `websockets` (without I/O of its own). Those that go out are
written here: what was read from a pipe goes into the socket from where it lies, with its head put before it.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from uvicorn.protocols.http.flow_control import FlowControl
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from gpuyard import __version__, errors
from gpuyard.local.http.request import Request, Scope

#: One message of a client.
MAX_MESSAGE_BYTES = 1 << 20
#: Of messages that nobody has taken yet; above it the client has to wait.
_MAX_WAITING_BYTES = 1 << 20
#: What each of them costs beside its text.
_MESSAGE_BYTES = 64
#: Room before the data for the longest head of a frame, and the number of a channel.
HEAD_ROOM = 11
#: How long the other side has to answer a close.
_CLOSE_S = 5.0
#: While nothing is read of a client, its leaving has to be looked for.
_LOOK_S = 1.0
_WHOLE_BINARY = 0x82


@dataclass(frozen=True)
class Handshake:
    """What is answered to a client: to its key, and with the subprotocol that was agreed on."""

    key: str
    subprotocol: str


class ServedWebSocket:
    """A connection that was upgraded. Methods belong to the event loop; one task receives.

    As a context manager it leaves no connection open when what it is for fails.

    Attributes:
        subprotocol: that was agreed on.
        gone: set once the client has left, or was sent away for a fault of its own.
    """

    def __init__(self, subprotocol: str) -> None:
        """See `accept`."""
        self.subprotocol = subprotocol
        self._protocol = ServerProtocol(state=OPEN, max_size=MAX_MESSAGE_BYTES)
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._begun = bytearray()
        self._arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self._look: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._flow: FlowControl

    @classmethod
    def accept(cls, scope: Scope, handshake: Handshake) -> ServedWebSocket:
        """Answers a handshake, and takes the connection over."""
        made = cls(handshake.subprotocol)
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-accept: {accept_key(handshake.key)}\r\n"
            f"sec-websocket-protocol: {handshake.subprotocol}\r\ngpuyard-version: {__version__}\r\n\r\n"
        )
        made._transport, made._flow = scope["upgrade"](made)
        made._transport.write(head.encode())
        return made

    async def __aenter__(self) -> ServedWebSocket:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            await self.close(CloseCode.INTERNAL_ERROR, "the server failed: see the yard's log")
        elif error is not None:
            self._transport.close()

    # -- the connection's side ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See `Upgraded.data_received`."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
                if event.fin:
                    message = b"".join((self._begun, event.data))
                    self._begun.clear()
                    self._messages.append(message)
                    self._waiting_bytes += len(message) + _MESSAGE_BYTES
                else:
                    self._begun += event.data
        self._flush()
        if self._waiting_bytes > _MAX_WAITING_BYTES:
            self._pause()
        self._arrived.set()

    def connection_lost(self) -> None:
        """See `Upgraded.connection_lost`."""
        self.gone.set()
        self._arrived.set()
        self._stop_looking()

    def _flush(self) -> None:
        """Sends what the protocol has to say: pongs, and answers to a close or to a fault."""
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self.connection_lost()
                self._transport.close()

    def _pause(self) -> None:
        """Reads no more of the client. A transport that doesn't read doesn't notice either that it leaves."""
        self._flow.pause_reading()
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_for_client)

    def _look_for_client(self) -> None:
        self._look = None
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        if self._transport.is_closing() or poll.poll(0):
            self.connection_lost()
        else:
            self._pause()

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    # -- the application's side --------------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """The next message; None once the client has left."""
        while not self._messages:
            if self.gone.is_set():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        self._waiting_bytes -= len(message) + _MESSAGE_BYTES
        if self._waiting_bytes <= _MAX_WAITING_BYTES // 2 and not self.gone.is_set():
            self._stop_looking()
            self._flow.resume_reading()
        return message

    async def send_message(self, data: bytes) -> None:
        """Sends one message without a channel; waits while the client is behind."""
        if not self.gone.is_set() and self._protocol.state is OPEN:
            self._transport.write(_head(len(data)) + data)
            await self._flow.drain()

    async def send(self, channel: int, data: bytes) -> None:
        """Sends one message; waits while the client is behind."""
        buffer = bytearray(HEAD_ROOM + len(data))
        buffer[HEAD_ROOM:] = data
        await self.send_from(channel, buffer, len(data))

    async def send_from(self, channel: int, buffer: bytearray, size: int) -> bool:
        """Sends `size` bytes that lie in a buffer behind its `HEAD_ROOM`; whether it may be used again."""
        if self.gone.is_set() or self._protocol.state is not OPEN:
            return True
        head = _head(size + 1)
        start = HEAD_ROOM - 1 - len(head)
        buffer[start : HEAD_ROOM - 1] = head
        buffer[HEAD_ROOM - 1] = channel
        self._transport.write(memoryview(buffer)[start : HEAD_ROOM + size])
        await self._flow.drain()
        # What a transport hasn't sent yet it may keep where it lies.
        return self._transport.get_write_buffer_size() == 0

    async def close(self, code: CloseCode = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Says goodbye, waits for the answer, and ends the connection."""
        if not self.gone.is_set() and self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._flush()
            self._flow.resume_reading()
        try:
            async with asyncio.timeout(_CLOSE_S):
                while await self.receive() is not None:
                    pass
        except TimeoutError:
            self._transport.abort()
        self._transport.close()


def _head(length: int) -> bytes:
    """Of a frame that is a whole message; source: RFC 6455, 5.2."""
    if length < 126:
        return bytes((_WHOLE_BINARY, length))
    if length < 1 << 16:
        return bytes((_WHOLE_BINARY, 126)) + length.to_bytes(2, "big")
    return bytes((_WHOLE_BINARY, 127)) + length.to_bytes(8, "big")


def check_handshake(request: Request, subprotocols: Sequence[str]) -> Handshake:
    """Reads a handshake. The subprotocol is the first of those that the client offers which is served.

    Raises:
        BadRequest: worded for whoever uses an old client.
    """
    headers = request.headers
    upgrade = headers.get(b"upgrade", b"").decode("latin-1").lower()
    if "spdy/3.1" in upgrade:
        raise errors.BadRequest(
            "this gpuyard yard streams through WebSockets only, and the client asks for SPDY: "
            "use kubectl 1.31 or later, and leave KUBECTL_REMOTE_COMMAND_WEBSOCKETS and "
            "KUBECTL_PORT_FORWARD_WEBSOCKETS unset"
        )
    key = headers.get(b"sec-websocket-key", b"").decode("latin-1")
    if upgrade != "websocket" or b"upgrade" not in headers.get(b"connection", b"").lower():
        raise errors.BadRequest("Upgrade request required")
    if not key or headers.get(b"sec-websocket-version") != b"13" or request.method != "GET":
        raise errors.BadRequest("this is no WebSocket handshake of version 13 (RFC 6455)")
    offered = [
        word.strip() for word in headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(",")
    ]
    for one in offered:
        if one in subprotocols:
            return Handshake(key, one)
    raise errors.BadRequest(
        f"none of the WebSocket subprotocols that the client offers ({', '.join(offered) or 'none'}) is "
        f"served here: {', '.join(subprotocols)}"
    )
