"""Frames against the library's server, and against servers that lie and cut."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from websockets.asyncio.server import ServerConnection

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.client.streams.websocket import WebSocket, chosen_protocol, open_websocket
from tests.unit.client.streams.conftest import serving


class Scripted:
    """A wire from which these pieces come; remembers what is sent."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.sent = b""

    async def read(self, most_bytes: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def write(self, data: bytes) -> None:
        self.sent += data


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3_000_001])
async def test_messages_of_every_length_come_back_as_they_were(size: int) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.ping()
            await connection.send(message)

    data = os.urandom(size)
    async with serving(echo, "a") as api, open_websocket(api, "/x", {"q": ["1", "2"]}, ("b", "a")) as socket:
        assert socket.protocol == "a"
        for _ in range(2):
            await socket.send(data[:7], data[7:])
            assert bytes(await socket.receive() or b"") == data


async def test_pieces_of_a_message_come_as_one_wherever_they_are_cut() -> None:
    frames = b"\x02\x03abc" + b"\x89\x02hi" + b"\x00\x00" + b"\x80\x02de" + b"\x82\x01f" + b"\x88\x02\x03\xe8"
    for cut in range(len(frames) + 1):
        wire = Scripted(*filter(None, (frames[:cut], frames[cut:])))
        socket = WebSocket(wire, "it", "a")
        received = [bytes(await socket.receive() or b""), bytes(await socket.receive() or b"")]
        assert received == [b"abcde", b"f"], cut
        assert await socket.receive() is None
        assert wire.sent[0] == 0x8A  # the answer to its ping
        assert wire.sent[8] == 0x88  # and to its goodbye


@pytest.mark.parametrize(
    "frames",
    [b"\x82\x7f" + b"\xff" * 8, b"\x82\x81abcde", b"\xc2\x01a", b"\x82\x05abc", b"", b"\x82"],
    ids=["too long", "masked", "reserved bits", "cut in the payload", "cut", "cut in the head"],
)
async def test_what_is_no_frame_is_a_failed_connection(frames: bytes) -> None:
    with pytest.raises(errors.ConnectionFailed):
        await WebSocket(Scripted(frames), "it", "a").receive()


async def test_a_server_that_stays_silent_is_asked_once_and_then_given_up() -> None:
    class Silent(Scripted):
        async def read(self, most_bytes: int) -> bytes:
            raise TimeoutError  # as asyncio.timeout does

    wire = Silent()
    with pytest.raises(errors.Stalled):
        await WebSocket(wire, "it", "a", silence_timeout_s=9).receive()
    assert wire.sent[:2] == b"\x89\x80"


class Full(Scripted):
    """A wire whose other end doesn't read: of a large message half fits in, of what follows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = asyncio.Event()

    async def write(self, data: bytes) -> None:
        if not self.is_full.is_set():
            self.sent += data[: len(data) // 2]
        self.is_full.set()
        await asyncio.Event().wait()


async def test_nothing_follows_a_message_that_was_cut_off() -> None:
    wire = Full()
    socket = WebSocket(wire, "it", "a")
    sending = asyncio.create_task(socket.send(bytes(1000)))
    await wire.is_full.wait()
    sending.cancel()
    await asyncio.wait([sending])
    half = wire.sent
    async with asyncio.timeout(60):
        with pytest.raises(errors.ConnectionFailed, match="cut off"):
            await socket.send(b"more")
        await socket.aclose()
    assert wire.sent == half


async def test_a_goodbye_does_not_wait_for_who_does_not_read() -> None:
    wire = Full()
    wire.is_full.set()
    async with asyncio.timeout(60):
        await WebSocket(wire, "it", "a").aclose()
    assert wire.sent == b""


def test_an_answer_to_another_handshake_is_refused() -> None:
    # The example of RFC 6455, 1.3.
    headers = {"upgrade": "websocket", "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    assert chosen_protocol(headers | {"sec-websocket-protocol": "v5"}, key, ["v5"]) == "v5"
    with pytest.raises(ValueError, match="protocol ''"):
        chosen_protocol(headers, key, ["v5"])
    with pytest.raises(ValueError, match="isn't ours"):
        chosen_protocol(headers, key + "x", ["v5"])


class Refusing:
    """An API server to which one word is missing, as to Kubernetes 1.37."""

    @asynccontextmanager
    async def upgraded(self, *_: object) -> AsyncIterator[None]:
        raise errors.Forbidden('pods "train" is forbidden: ')
        yield


async def test_a_refusal_without_a_reason_gets_it() -> None:
    path = "/api/v1/namespaces/team/pods/train/exec"
    with pytest.raises(errors.Forbidden, match='you cannot create resource "pods/exec"') as refused:
        async with open_websocket(cast(RestApi, Refusing()), path, {}, ("a",)):
            pass
    assert "the verb create on pods/exec, beside get" in refused.value.remedy
