"""SPDY/3.1 frames, for one end or the other (no I/O): what `kubectl port-forward` speaks inside a WebSocket.

Only what Kubernetes uses of it: streams with headers, data, resets and pings; windows are never counted, as
its own library never does. Source: SPDY protocol draft 3.1; github.com/moby/spdystream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from gpuyard.client.streams.websocket import Bytes

LAST = 1
_CONTROL = 0x8003
_ID = 0x7FFF_FFFF
_HEAD_BYTES = 8
_MAX_CONTROL_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 20
#: RST_STREAM's word for an end that is no error.
_CANCEL = 5

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges "
    "age allow authorization cache-control connection content-base content-encoding content-language "
    "content-length content-location content-md5 content-range content-type date etag expect expires from "
    "host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location "
    "max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version "
    "HTTP/1.1 url public set-cookie keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-"
    "Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun "
    "Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,"
    "image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivate"
    "max-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


class FrameType(IntEnum):
    """Of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


@dataclass(frozen=True)
class DataPiece:
    """A part of a stream's data; the other end sends no more of it after the last."""

    stream: int
    data: Bytes
    is_last: bool


@dataclass(frozen=True)
class ControlFrame:
    """Any other frame; `type` may be one that nobody knows."""

    type: int
    flags: int
    payload: bytes

    @property
    def stream(self) -> int:
        """Which stream it is about; 0 where it is about none."""
        return int.from_bytes(self.payload[:4]) & _ID


class HeaderBlocks:
    """Headers of streams, compressed both ways; each block builds upon those before it."""

    def __init__(self) -> None:
        words = (word.replace("_", " ").encode() for word in _WORDS.split(" "))
        known = b"".join(struct.pack(">I", len(word)) + word for word in words) + _TEXT.encode()
        self._deflate = zlib.compressobj(zdict=known)
        self._inflate = zlib.decompressobj(zdict=known)

    def pack(self, headers: Mapping[str, str]) -> bytes:
        """Names become lower case."""
        words = [word for name, value in headers.items() for word in (name.lower().encode(), value.encode())]
        plain = b"".join(struct.pack(">I", len(word)) + word for word in words)
        count = struct.pack(">I", len(headers))
        return self._deflate.compress(count + plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def unpack(self, block: bytes) -> dict[str, str]:
        """The headers of a block; every block has to be unpacked, in order.

        Raises:
            ValueError: it is none.
        """
        try:
            plain = self._inflate.decompress(block, _MAX_HEADER_BYTES)
            (count,) = struct.unpack_from(">I", plain)
            place, words = 4, list[str]()
            for _ in range(2 * count):
                (size,) = struct.unpack_from(">I", plain, place)
                words.append(plain[place + 4 : place + 4 + size].decode())
                place += 4 + size
        except (zlib.error, struct.error) as error:
            raise ValueError(f"a block of headers that is none: {error}") from error
        if place != len(plain):
            raise ValueError("a block of headers that ends elsewhere")
        return dict(zip(words[::2], words[1::2], strict=True))


class FrameReader:
    """Finds the frames in what the other end sends, piece by piece."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._stream = self._left = 0
        self._is_last = False

    def feed(self, data: Bytes) -> Iterator[DataPiece | ControlFrame]:
        """What has come with this piece.

        Raises:
            ValueError: it is no SPDY/3.
        """
        view = memoryview(data)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield DataPiece(self._stream, piece, self._is_last and not self._left)
                continue
            size = self._due()
            missing = size - len(self._held)
            self._held += view[:missing]
            view = view[missing:]
            if len(self._held) == size and self._due() == size:
                yield from self._take()

    def _due(self) -> int:
        """How many bytes make the next step: a frame's head, and of a control frame all of it."""
        if len(self._held) < _HEAD_BYTES or not self._held[0] & 0x80:
            return _HEAD_BYTES
        size = int.from_bytes(self._held[5:8])
        if int.from_bytes(self._held[:2]) != _CONTROL or size > _MAX_CONTROL_BYTES:
            raise ValueError("what comes is no SPDY/3")
        return _HEAD_BYTES + size

    def _take(self) -> Iterator[DataPiece | ControlFrame]:
        head, flags = bytes(self._held), self._held[4]
        self._held.clear()
        if head[0] & 0x80:
            yield ControlFrame(int.from_bytes(head[2:4]), flags, head[_HEAD_BYTES:])
            return
        self._stream, self._left = int.from_bytes(head[:4]), int.from_bytes(head[5:8])
        self._is_last = bool(flags & LAST)
        if not self._left:
            yield DataPiece(self._stream, b"", self._is_last)


def syn_stream(stream: int, headers: bytes) -> bytes:
    """Opens a stream; ids of the end that connected are odd."""
    return _control(FrameType.SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + headers)


def syn_reply(stream: int, headers: bytes) -> bytes:
    """Says that a stream is open."""
    return _control(FrameType.SYN_REPLY, struct.pack(">I", stream) + headers)


def reset(stream: int) -> bytes:
    """Ends a stream both ways."""
    return _control(FrameType.RST_STREAM, struct.pack(">II", stream, _CANCEL))


def pong(ping: ControlFrame) -> bytes:
    """The answer to a ping."""
    return _control(FrameType.PING, ping.payload)


def data_head(stream: int, size: int, *, is_last: bool = False) -> bytes:
    """What goes before so many bytes of data."""
    return struct.pack(">II", stream, (LAST << 24 if is_last else 0) | size)


def _control(type_: FrameType, payload: bytes) -> bytes:
    return struct.pack(">HHI", _CONTROL, type_, len(payload)) + payload
