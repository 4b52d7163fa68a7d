"""One WebSocket as its client. Source: RFC 6455; extensions are never offered.

The library for it takes 70 ms to import, as long as all the rest of a short command, and copies each frame
twice on its way (docs/adr/0048). So the frames are read here; its masking in C is used where much is sent.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from gpuyard import errors
from gpuyard.client.http.direct_http import UnixWire
from gpuyard.client.http.exchange import ANSWER_TIMEOUT_S, Wire
from gpuyard.client.rest import RestApi

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_READ_BYTES = 1 << 18
#: No server of ours or of Kubernetes sends longer ones; a length that isn't one would take all memory.
_MAX_FRAME_BYTES = 1 << 26
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0, 2, 8, 9, 10
_FINAL, _RESERVED, _OPCODE, _MASKED = 0x80, 0x70, 0x0F, 0x80
#: Somebody who doesn't read any more isn't waited for.
_GOODBYE_TIMEOUT_S = 1.0
#: Below this it takes longer to import the masking in C than to do without.
_MANY_BYTES = 1 << 12

Bytes = bytes | bytearray | memoryview


@asynccontextmanager
async def open_websocket(
    api: RestApi, path: str, params: Mapping[str, str | Sequence[str]], protocols: Sequence[str]
) -> AsyncIterator[WebSocket]:
    """A WebSocket for as long as the context is open; the best of the protocols first.

    Raises:
        ApiError: the server refuses.
        ConnectionFailed: nobody answers, or not as a WebSocket's server.
    """
    key = base64.b64encode(os.urandom(16)).decode()
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": ", ".join(protocols),
    }
    async with _upgraded(api, path, params, headers) as (wire, answered):
        try:
            chosen = chosen_protocol(answered, key, protocols)
        except ValueError as error:
            raise errors.ConnectionFailed(
                f"the API at {api.server} doesn't speak WebSocket as asked: {error}",
                remedy="does a proxy lie between that changes it?",
            ) from error
        # On this machine no connection dies silently.
        silence_s = None if isinstance(wire, UnixWire) else ANSWER_TIMEOUT_S
        opened = WebSocket(wire, api.server, chosen, silence_timeout_s=silence_s)
        try:
            yield opened
        finally:
            await opened.aclose()


@asynccontextmanager
async def _upgraded(
    api: RestApi, path: str, params: Mapping[str, str | Sequence[str]], headers: Mapping[str, str]
) -> AsyncIterator[tuple[Wire, Mapping[str, str]]]:
    """As `RestApi.upgraded`, with the reason of a refusal that comes without one.

    From Kubernetes 1.35 on a WebSocket into a pod takes the right to create, too, and who has only that to
    get is refused without a word (AuthorizePodWebsocketUpgradeCreatePermission).
    """
    try:
        async with api.upgraded(path, params, headers) as opened:
            yield opened
    except errors.Forbidden as error:
        if not error.message.rstrip().endswith("is forbidden:"):
            raise
        resource = f"pods/{path.rpartition('/')[2]}"
        raise errors.Forbidden(
            f'{error.message.rstrip()} you cannot create resource "{resource}"',
            remedy=f"from Kubernetes 1.35 on this takes the verb create on {resource}, beside get: an "
            "administrator adds it to your role; gpuyard-submitter has both",
        ) from error


def chosen_protocol(headers: Mapping[str, str], key: str, protocols: Sequence[str]) -> str:
    """The protocol that the server chose.

    Raises:
        ValueError: the answer doesn't belong to this handshake.
    """
    due = base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()
    if headers.get("upgrade", "").lower() != "websocket" or headers.get("sec-websocket-accept") != due:
        raise ValueError("the handshake isn't ours")
    found = headers.get("sec-websocket-protocol", "")
    if found not in protocols:
        raise ValueError(f"it chose the protocol {found!r} of {', '.join(protocols)}")
    return found


class MessagePiece(NamedTuple):
    """A part of a message, and whether it is its first and its last."""

    data: Bytes
    begins: bool
    ends: bool


class WebSocket:
    """Messages both ways; one task may receive while others send.

    Args:
        wire: the connection, after the handshake.
        server: where it goes, for messages.
        protocol: what was chosen.
        silence_timeout_s: after so long without a byte it asks for a sign of life, and gives up after as long
            again; None: never.
    """

    def __init__(
        self, wire: Wire, server: str, protocol: str, *, silence_timeout_s: float | None = None
    ) -> None:
        self.protocol = protocol
        self._wire = wire
        self._server = server
        self._silence_timeout_s = silence_timeout_s
        self._held = memoryview(b"")
        #: Of the data frame that has begun: what is still to come, and whether it is its message's last.
        self._left, self._is_last = 0, True
        self._has_begun = False
        self._sending = asyncio.Lock()
        #: Whether a frame was begun and isn't whole: what follows it would be taken for its rest.
        self._is_cut_off = False
        self._is_closed = False

    async def receive_piece(self) -> MessagePiece | None:
        """What has come next, without waiting for the rest of its message; None once the server has closed.

        Raises:
            ConnectionFailed: it was cut, or what comes is no WebSocket's.
            Stalled: no sign of life.
        """
        while not self._left:
            first, size = await self._head()
            match first & _OPCODE:
                case code if code <= _BINARY:
                    self._left, self._is_last = size, bool(first & _FINAL)
                    if not size:
                        return self._piece(b"")
                case code if code == _CLOSE:
                    await self._answer_close()
                    return None
                case code if code == _PING:
                    await self._send_frame(_PONG, await self._exactly(size))
                case _:
                    await self._exactly(size)
        held = self._held or memoryview(await self._some())
        self._held = held[self._left :]
        return self._piece(held[: self._left])

    def _piece(self, data: Bytes) -> MessagePiece:
        self._left -= len(data)
        begins, self._has_begun = not self._has_begun, True
        ends = self._is_last and not self._left
        self._has_begun = not ends
        return MessagePiece(data, begins, ends)

    async def receive(self) -> Bytes | None:
        """The next message, whole; else as `receive_piece`."""
        parts = []
        while piece := await self.receive_piece():
            parts.append(piece.data)
            if piece.ends:
                return parts[0] if len(parts) == 1 else b"".join(parts)
        return None

    async def send(self, *parts: Bytes) -> None:
        """Sends one message, and waits while the connection is full.

        Raises:
            ConnectionFailed: it was cut.
        """
        await self._send_frame(_BINARY, *parts)

    async def aclose(self) -> None:
        """Says goodbye, where somebody still listens."""
        await self._answer_close()

    async def _answer_close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            # Without it the end of the connection says as much.
            with suppress(errors.ConnectionFailed, TimeoutError):
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await self._send_frame(_CLOSE, struct.pack(">H", 1000))

    async def _send_frame(self, code: int, *parts: Bytes) -> None:
        payload = b"".join(parts) if len(parts) > 1 else parts[0]
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", _FINAL | code, _MASKED | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", _FINAL | code, _MASKED | 126, size)
        else:
            head = struct.pack(">BBQ", _FINAL | code, _MASKED | 127, size)
        mask = os.urandom(4)
        async with self._sending:
            if self._is_cut_off:
                raise errors.ConnectionFailed(f"a message to the API at {self._server} was cut off")
            self._is_cut_off = True
            await self._wire.write(b"".join((head, mask, _masked(payload, mask))))
            self._is_cut_off = False

    async def _head(self) -> tuple[int, int]:
        """The first byte of a frame, and the size of its payload."""
        first, second = await self._exactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._exactly(8))
        if first & _RESERVED or second & _MASKED or size > _MAX_FRAME_BYTES:
            raise errors.ConnectionFailed(f"the API at {self._server} sends what is no WebSocket's frame")
        return first, size

    async def _exactly(self, size: int) -> Bytes:
        """So many bytes, without a copy where they came in one piece."""
        held = self._held
        if len(held) >= size:
            self._held = held[size:]
            return held[:size]
        parts, left = [held], size - len(held)
        while left:
            piece = memoryview(await self._some())
            parts.append(piece[:left])
            self._held = piece[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    async def _some(self) -> bytes:
        """What has come; at least a byte."""
        if piece := await self._read():
            return piece
        raise errors.ConnectionFailed(
            f"the API at {self._server} cut the connection",
            remedy="try again; what lies between may end connections that are silent for long",
        )

    async def _read(self) -> bytes:
        for has_asked in (False, True):
            if self._silence_timeout_s is None:
                return await self._wire.read(_READ_BYTES)
            try:
                async with asyncio.timeout(self._silence_timeout_s):
                    return await self._wire.read(_READ_BYTES)
            except TimeoutError:
                if not has_asked:
                    await self._send_frame(_PING, b"")
        raise errors.Stalled(
            f"the API at {self._server} doesn't answer any more",
            remedy="has this machine lost its network? Try again",
        )


def _masked(payload: Bytes, mask: bytes) -> bytes:
    """Source: RFC 6455, 5.3."""
    size = len(payload)
    if size >= _MANY_BYTES:
        from websockets.utils import apply_mask

        return apply_mask(payload, mask)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)
