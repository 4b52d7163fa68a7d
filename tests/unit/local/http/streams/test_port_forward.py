from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gpuyard.client.rest import RestApi
from gpuyard.client.streams.spdy import (
    ControlFrame,
    DataPiece,
    FrameReader,
    FrameType,
    HeaderBlocks,
    data_head,
    reset,
    syn_stream,
)
from gpuyard.client.streams.websocket import WebSocket, open_websocket
from gpuyard.local.http.streams.port_forward import MAX_CONNECTIONS, SUBPROTOCOLS

from .conftest import ANSWERS, Served, until_said

#: Never reads.
POURS = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0), backlog=300)
print(server.getsockname()[1], flush=True)
def pour(connection):
    try:
        connection.sendall(b"x" * (1 << 26))
    except OSError:
        pass
while True:
    threading.Thread(target=pour, args=server.accept()[:1], daemon=True).start()
"""
#: Prints of each connection, one after the other, when something came, and when it is gone.
NOTICES = """
import itertools, socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
for number in itertools.count():
    connection = server.accept()[0]
    try:
        while connection.recv(1):
            print("came", number, flush=True)
    except OSError:
        pass
    print("gone", number, flush=True)
"""


@dataclass
class _Client:
    """The other end, which knows what came of each stream."""

    socket: WebSocket
    blocks: HeaderBlocks = field(default_factory=HeaderBlocks)
    frames: FrameReader = field(default_factory=FrameReader)
    said: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)

    async def open(self, data: int, port: object, request: str = "0") -> None:
        named = {"port": str(port), "requestID": request}
        for stream, kind in ((data - 2, "error"), (data, "data")):
            await self.socket.send(syn_stream(stream, self.blocks.pack({**named, "streamType": kind})))

    async def send(self, stream: int, data: bytes, *, is_last: bool = False) -> None:
        for start in range(0, len(data) or 1, 50_000):
            piece = data[start : start + 50_000]
            ends = is_last and start + len(piece) == len(data)
            await self.socket.send(data_head(stream, len(piece), is_last=ends) + piece)

    async def until_ended(self, *streams: int) -> None:
        async with asyncio.timeout(60):
            while not self.ended.issuperset(streams):
                message = await self.socket.receive()
                assert message is not None
                for frame in self.frames.feed(message):
                    self._take(frame)

    def _take(self, frame: DataPiece | ControlFrame) -> None:
        if isinstance(frame, DataPiece):
            self.said[frame.stream] = self.said.get(frame.stream, b"") + bytes(frame.data)
            self.ended |= {frame.stream} if frame.is_last else set()
        elif frame.type == FrameType.RST_STREAM:
            self.refused.add(frame.stream)
            self.ended.add(frame.stream)


@asynccontextmanager
async def _forwarding(served: Served, pod: str = "a") -> AsyncIterator[_Client]:
    path = f"/api/v1/namespaces/default/pods/{pod}/portforward"
    async with (
        RestApi(unix_socket=served.host.paths.api_socket) as api,
        open_websocket(api, path, {}, SUBPROTOCOLS) as socket,
    ):
        yield _Client(socket)


@asynccontextmanager
async def _outside() -> AsyncIterator[int]:
    """A port of this machine that is no pod's: of the test."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_bytes_go_both_ways_of_connections_beside_one_another(served: Served) -> None:
    text = b"abc" * 400_000
    async with served.running():
        port = await served.serves(ANSWERS)
        async with _forwarding(served) as client:
            await client.open(3, port, "0")
            await client.open(7, port, "1")
            await client.send(7, b"other", is_last=True)
            await client.send(3, text, is_last=True)
            await client.until_ended(1, 3, 5, 7)
    assert client.said[3] == text.upper()
    assert client.said[7] == b"OTHER"
    assert (client.said[1], client.said[5]) == (b"", b"")


async def test_a_port_where_nobody_listens_is_told_and_the_others_go_on(served: Served) -> None:
    async with _outside() as free:
        pass
    async with served.running():
        port = await served.serves(ANSWERS)
        async with _forwarding(served) as client:
            await client.open(3, free, "0")
            await client.open(7, port, "1")
            await client.send(7, b"x", is_last=True)
            await client.until_ended(1, 3, 7)
    assert f"nothing listens on port {free}" in client.said[1].decode()
    assert (client.said[7], client.refused) == (b"X", {3})


async def test_a_port_where_only_others_of_the_machine_listen_is_no_port_of_the_pod(served: Served) -> None:
    """As the forwarding client's own may be: that would be a loop."""
    async with served.running(), _outside() as theirs:
        port = await served.serves(ANSWERS)
        await served.up("b")
        async with _forwarding(served) as client:
            await client.open(3, theirs, "0")
            await client.open(7, port, "1")
            await client.send(7, b"x", is_last=True)
            await client.until_ended(1, 3, 7)
        async with _forwarding(served, "b") as of_another:
            await of_another.open(3, port)
            await of_another.until_ended(1, 3)
    assert f"nothing listens on port {theirs}" in client.said[1].decode()
    assert (client.said[7], client.refused) == (b"X", {3})
    assert f"nothing listens on port {port}" in of_another.said[1].decode()


async def test_a_command_that_a_client_opened_in_the_pod_may_listen_too(served: Served) -> None:
    async with served.running():
        await served.up()
        async with served.connect("a/exec", command=[sys.executable, "-c", ANSWERS], stdout="true") as opened:
            port = int((await until_said(opened, b"\n")).channels[1])
            async with _forwarding(served) as client:
                await client.open(3, port)
                await client.send(3, b"x", is_last=True)
                await client.until_ended(1, 3)
    assert client.said[3] == b"X"


async def test_what_names_no_port_or_is_one_too_many_is_refused(served: Served) -> None:
    async with served.running():
        port = await served.serves(POURS)
        async with _forwarding(served) as client:
            for number, bad in enumerate(("0", "65536", "-1", "", "ten", "٣")):
                await client.open(4 * number + 3, bad, str(number))
            for number in range(100, 101 + MAX_CONNECTIONS):
                await client.socket.send(
                    syn_stream(
                        4 * number + 1,
                        client.blocks.pack(
                            {"port": str(port), "requestID": str(number), "streamType": "data"}
                        ),
                    )
                )
            last = 4 * number + 1
            await client.until_ended(*range(1, 25, 2), last)
    assert client.refused == {*range(1, 25, 2), last}


async def test_garbage_ends_the_connection(served: Served) -> None:
    async with served.running():
        await served.up()
        for garbage in (b"\x80\x02\x00\x01\x00\x00\x00\x00", syn_stream(1, b"no headers"), b"\x80\x03" * 4):
            async with _forwarding(served) as client:
                await client.socket.send(garbage)
                assert await client.socket.receive() is None


async def test_a_client_that_leaves_or_resets_ends_its_connections(served: Served) -> None:
    async with served.running():
        port = await served.serves(NOTICES)
        async with _forwarding(served) as client:
            await client.open(3, port)
            await client.socket.send(reset(3))
            await served.host.says("a", "gone 0")
            await client.open(7, port)
            await client.send(7, b"x")
            await served.host.says("a", "came 1")
            assert "gone 1" not in await served.host.log("a")
        await served.host.says("a", "gone 1")


async def test_a_client_that_does_not_read_stops_the_port_and_nobody_else(served: Served) -> None:
    async with served.running():
        never, port = await served.serves(POURS), await served.serves(ANSWERS, "b")
        async with _forwarding(served) as slow, _forwarding(served, "b") as other:
            await slow.open(3, never)
            await slow.send(3, b"", is_last=True)
            await other.open(3, port)
            await other.send(3, b"x", is_last=True)
            await other.until_ended(3)
    assert other.said[3] == b"X"
