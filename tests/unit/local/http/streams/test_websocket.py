from __future__ import annotations

from unittest.mock import Mock

from websockets.frames import Frame, Opcode

from gpuyard.local.http.streams.remote_command import SUBPROTOCOLS
from gpuyard.local.http.streams.websocket import Handshake, ServedWebSocket


def _frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


async def test_a_client_that_sends_empty_messages_has_to_wait() -> None:
    transport, flow = Mock(), Mock()
    handshake = Handshake("key", SUBPROTOCOLS[0])
    socket = ServedWebSocket.accept({"upgrade": lambda _: (transport, flow)}, handshake)
    empty = _frame(Opcode.BINARY, b"")
    socket.data_received(empty * 10_000)
    assert not flow.pause_reading.called
    socket.data_received(empty * 10_000)
    assert flow.pause_reading.called
    for _ in range(20_000):
        assert await socket.receive() == b""
    assert flow.resume_reading.called
    socket.connection_lost()


async def test_parts_of_a_message_are_put_together() -> None:
    handshake = Handshake("key", SUBPROTOCOLS[0])
    socket = ServedWebSocket.accept({"upgrade": lambda _: (Mock(), Mock())}, handshake)
    for opcode, data, fin in (
        (Opcode.BINARY, b"a", False),
        (Opcode.CONT, b"", False),
        (Opcode.CONT, b"b", True),
        (Opcode.BINARY, b"c", True),
    ):
        socket.data_received(_frame(opcode, data, fin=fin))
    assert [await socket.receive(), await socket.receive()] == [b"ab", b"c"]
