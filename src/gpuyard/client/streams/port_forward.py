"""One connection to a port of a pod, over a WebSocket of its own: SPDY inside, as kubectl speaks it.

Source: k8s.io/client-go `tools/portforward` (portforward.go, tunneling_dialer.go), served from 1.30 on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.client.streams.spdy import (
    ControlFrame,
    DataPiece,
    FrameReader,
    FrameType,
    HeaderBlocks,
    data_head,
    pong,
    syn_stream,
)
from gpuyard.client.streams.websocket import Bytes, WebSocket, open_websocket

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
_ERRORS, _DATA = 1, 3
_MAX_SAID_BYTES = 4000


class PodPort:
    """The connection; see `open_port`."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def start(self, port: int) -> None:
        """Opens its two streams."""
        blocks = HeaderBlocks()
        named = {"port": str(port), "requestID": "0"}
        errors_opened = syn_stream(_ERRORS, blocks.pack({**named, "streamType": "error"}))
        data_opened = syn_stream(_DATA, blocks.pack({**named, "streamType": "data"}))
        # Nothing is ever sent on the stream of errors.
        await self._socket.send(errors_opened, data_head(_ERRORS, 0, is_last=True), data_opened)

    async def output(self) -> AsyncGenerator[Bytes, None]:
        """What comes, as it comes, to its end.

        Raises:
            GpuyardError: nobody listens on the port, or what else the node says.
            ConnectionFailed: the connection was cut.
        """
        frames, said, open_streams = FrameReader(), bytearray(), {_ERRORS, _DATA}
        while open_streams and (piece := await self._socket.receive_piece()):
            try:
                found = list(frames.feed(piece.data))
            except ValueError as error:
                raise errors.ConnectionFailed(f"what the API forwards can't be read: {error}") from error
            for frame in found:
                if isinstance(frame, DataPiece):
                    if frame.stream == _DATA and frame.data:
                        yield frame.data
                    elif frame.stream == _ERRORS:
                        said += frame.data[: _MAX_SAID_BYTES - len(said)]
                    if frame.is_last:
                        open_streams.discard(frame.stream)
                else:
                    await self._answer(frame, open_streams)
        if said:
            raise errors.GpuyardError(said.decode(errors="replace").strip())

    async def _answer(self, frame: ControlFrame, open_streams: set[int]) -> None:
        match frame.type:
            case FrameType.PING:
                await self._socket.send(pong(frame))
            case FrameType.RST_STREAM:
                open_streams.discard(frame.stream)
            case FrameType.GOAWAY:
                open_streams.clear()

    async def write(self, data: Bytes) -> None:
        """Sends."""
        await self._socket.send(data_head(_DATA, len(data)), data)

    async def close_input(self) -> None:
        """Says that no more is sent."""
        await self._socket.send(data_head(_DATA, 0, is_last=True))


@asynccontextmanager
async def open_port(api: RestApi, namespace: str, pod: str, port: int) -> AsyncIterator[PodPort]:
    """Connects to a port of a pod's own network, also where only the pod itself reaches it (127.0.0.1).

    Raises:
        NotFound, BadRequest: no such pod, or it doesn't run.
        Forbidden: the user may not `get` or `create` pods/portforward.
        ConnectionFailed: nobody answers, or somebody between doesn't let WebSockets through.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
    # Servers of other versions look for the port here; those of SPDY take it from the streams.
    async with open_websocket(api, path, {"ports": str(port)}, (PROTOCOL,)) as socket:
        opened = PodPort(socket)
        await opened.start(port)
        yield opened
