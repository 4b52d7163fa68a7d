"""A process and its two sides: whichever fails first is told, also while the process goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from websockets.asyncio.server import ServerConnection

from gpuyard import errors
from gpuyard.client.streams.remote_command import V5, Channel, Streams
from gpuyard.client.streams.websocket import Bytes
from gpuyard.runs.interactive.command import exec_in
from gpuyard.runs.interactive.live_pod import LivePod
from gpuyard.runs.target import Target
from tests.unit.client.streams.conftest import serving

ENDED = b'\x03{"status": "Success"}'


class Failing:
    """A console whose input gives one piece and then this error."""

    def __init__(self, error: Exception) -> None:
        self.streams = Streams(stdin=True)
        self.out = b""
        self._due: list[bytes | Exception] = [b"x", error]

    async def read(self) -> bytes:
        due = self._due.pop(0)
        if isinstance(due, Exception):
            raise due
        return due

    async def write(self, channel: Channel, data: Bytes) -> None:
        self.out += bytes(data)

    async def size(self) -> tuple[int, int]:
        raise AssertionError


POD = LivePod(run="train", name="train-0", container="main")


@pytest.mark.parametrize(
    "error", [errors.GpuyardError("big became shorter"), PermissionError(13, "Permission denied", "big")]
)
async def test_input_that_fails_ends_a_process_that_waits_for_more(error: Exception) -> None:
    gone = asyncio.Event()

    async def waits_for_more(connection: ServerConnection) -> None:
        async for _ in connection:
            pass
        gone.set()

    async with serving(waits_for_more, V5) as api, asyncio.timeout(60):
        with pytest.raises(type(error)) as raised:
            await exec_in(Target(api, "n", is_yard=True), POD, ["tar"], Failing(error))
        await gone.wait()
    assert raised.value is error


async def test_input_that_is_not_taken_any_more_is_no_failure_of_a_process_that_ends_well() -> None:
    async def ends_later(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(b"\x01out")
        await connection.send(ENDED)

    console = Failing(errors.ConnectionFailed("it cut the connection"))
    async with serving(ends_later, V5) as api, asyncio.timeout(60):
        assert await exec_in(Target(api, "n", is_yard=True), POD, ["true"], console) == 0
    assert console.out == b"out"


@pytest.mark.parametrize(
    ("command", "has_image", "remedy"),
    [
        (["echo hi | wc"], True, "sh -c 'echo hi | wc'"),
        (["nvidia-smi"], False, "gpuyard top train"),
        (["nosuch"], False, "this machine's programs"),
        (["nosuch"], True, "what its maker put into it"),
    ],
)
async def test_what_helps_where_there_is_no_program(command: list[str], has_image: bool, remedy: str) -> None:
    async def has_none(connection: ServerConnection) -> None:
        await connection.send(
            b'\x03{"status": "Failure", "reason": "InternalError", "message": "no such file or directory"}'
        )

    pod = replace(POD, has_image=has_image)
    async with serving(has_none, V5) as api, asyncio.timeout(60):
        with pytest.raises(errors.GpuyardError, match="there is no program") as raised:
            await exec_in(Target(api, "n", is_yard=True), pod, command, Silent())
    assert raised.value.exit_code == 127
    assert remedy in raised.value.remedy


class Silent(Failing):
    """A console without input."""

    def __init__(self) -> None:
        super().__init__(OSError())
        self.streams = Streams()
