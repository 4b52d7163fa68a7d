"""port-forward: pairs of SPDY streams inside a WebSocket, as kubectl speaks it from 1.30 on.

A client opens two streams for each connection, with the headers `requestID`, `port` and `streamType`: on
`data` bytes go both ways, on `error` goes one sentence to the client. Sources: kubernetes
`k8s.io/cri-streaming/pkg/streaming/portforward/httpstream.go`, `k8s.io/client-go/tools/portforward`.

A port that doesn't read stops the client, also for its other ports, as in Kubernetes: SPDY's windows aren't
used there. Nothing is kept but one piece per connection and direction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from websockets.frames import CloseCode

from gpuyard import errors
from gpuyard.client.streams.spdy import (
    ControlFrame,
    DataPiece,
    FrameReader,
    FrameType,
    HeaderBlocks,
    data_head,
    pong,
    reset,
    syn_reply,
)
from gpuyard.local.http.streams.websocket import ServedWebSocket

SUBPROTOCOLS = ("SPDY/3.1+portforward.k8s.io",)
#: Of one client at a time; what comes above it is refused.
MAX_CONNECTIONS = 256
_PIECE_BYTES = 64 << 10
_DATA, _ERROR = "data", "error"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[int], Awaitable[Connection]]


async def serve(socket: ServedWebSocket, connect: Connect) -> None:
    """Forwards until the client leaves; all connections end with it.

    Args:
        socket: of the client.
        connect: opens a connection to a port; a GpuyardError is told to the client.
    """
    tunnel = _Tunnel(socket, connect)
    reading = asyncio.create_task(tunnel.read(), name="forward-frames")
    gone = asyncio.create_task(socket.gone.wait(), name="forward-client")
    try:
        await asyncio.wait((reading, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        reading.cancel()
        (result, *_) = await asyncio.gather(reading, gone, return_exceptions=True)
        await tunnel.close()
    if isinstance(result, ValueError):
        await socket.close(CloseCode.PROTOCOL_ERROR, str(result))
    elif isinstance(result, Exception):
        raise result
    else:
        await socket.close()


class _Tunnel:
    """All that one client forwards."""

    def __init__(self, socket: ServedWebSocket, connect: Connect) -> None:
        self._socket = socket
        self._connect = connect
        self._blocks = HeaderBlocks()
        #: The first stream of a pair by its request, until the second is there.
        self._halves: dict[str, tuple[str, int]] = {}
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def read(self) -> None:
        """Does what the client's frames say, until it leaves.

        Raises:
            ValueError: what comes is no SPDY.
        """
        frames = FrameReader()
        while (message := await self._socket.receive()) is not None:
            for frame in frames.feed(message):
                if isinstance(frame, DataPiece):
                    await self._give(frame)
                elif frame.type == FrameType.SYN_STREAM:
                    await self._open(frame)
                elif frame.type == FrameType.RST_STREAM:
                    self._drop(frame.stream)
                elif frame.type == FrameType.PING:
                    await self._socket.send_message(pong(frame))
                elif frame.type == FrameType.HEADERS:
                    # They say nothing here, but later ones are compressed after them.
                    self._blocks.unpack(frame.payload[4:])
                elif frame.type == FrameType.GOAWAY:
                    return

    async def close(self) -> None:
        """Ends all connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _give(self, piece: DataPiece) -> None:
        writer = self._writers.get(piece.stream)
        if writer is None:
            return
        with suppress(OSError, RuntimeError):  # it takes no more: its task says so
            if piece.data:
                writer.write(piece.data)
                await writer.drain()
            if piece.is_last:
                writer.write_eof()

    async def _open(self, frame: ControlFrame) -> None:
        headers = {name.lower(): value for name, value in self._blocks.unpack(frame.payload[10:]).items()}
        kind, port = headers.get("streamtype", ""), _parse_port(headers.get("port", ""))
        is_full = len(self._tasks) + len(self._halves) >= MAX_CONNECTIONS
        if kind not in (_DATA, _ERROR) or port is None or is_full:
            await self._socket.send_message(reset(frame.stream))
            return
        await self._socket.send_message(syn_reply(frame.stream, self._blocks.pack({})))
        request = headers.get("requestid", "")
        other = self._halves.pop(request, None)
        if other is None or other[0] == kind:
            self._halves[request] = (kind, frame.stream)
            return
        data, error = (frame.stream, other[1]) if kind == _DATA else (other[1], frame.stream)
        if data not in self._tasks:
            await self._start(data, error, port)

    async def _start(self, data: int, error: int, port: int) -> None:
        """Connects before anything else is read: the client's first bytes come right behind."""
        try:
            reader, writer = await self._connect(port)
        except errors.GpuyardError as failure:
            said = failure.message.encode()
            await self._socket.send_message(data_head(error, len(said), is_last=True) + said)
            await self._socket.send_message(reset(data))
            return
        self._writers[data] = writer
        task = asyncio.create_task(self._carry(data, error, reader), name="forward-connection")
        self._tasks[data] = task
        task.add_done_callback(lambda _: self._forget(data))

    async def _carry(self, data: int, error: int, reader: asyncio.StreamReader) -> None:
        """Sends what the port says, to its end, which is the connection's."""
        with suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                await self._socket.send_message(data_head(data, len(piece)) + piece)
        ends = data_head(data, 0, is_last=True) + data_head(error, 0, is_last=True)
        await self._socket.send_message(ends)

    def _drop(self, stream: int) -> None:
        if (task := self._tasks.get(stream)) is not None:
            task.cancel()

    def _forget(self, data: int) -> None:
        del self._tasks[data]
        writer = self._writers.pop(data)
        writer.transport.abort()


def _parse_port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 1 << 16 else None
