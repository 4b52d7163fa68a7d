"""The channels of a process, as a Kubernetes API server speaks them."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.client.streams.remote_command import V4, V5, Channel, RemoteCommand, Streams, open_exec
from tests.unit.client.streams.conftest import serving

FAILED = {
    "status": "Failure",
    "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
}


async def collected(process: RemoteCommand) -> list[tuple[Channel, bytes]]:
    return [(channel, bytes(data)) async for channel, data in process.output()]


def exec_on(api: RestApi, streams: Streams = Streams(stdin=True)):  # type: ignore[no-untyped-def]  # noqa: B008
    return open_exec(api, "n", "pod", "main", ["cat", "a b", "-"], streams)


async def test_input_output_size_and_exit_code_go_over_their_channels() -> None:
    got: list[bytes | str] = []

    async def serve(connection: ServerConnection) -> None:
        assert connection.request is not None
        got.append(connection.request.path)
        await connection.send(b"\x01")
        got.extend([await connection.recv() for _ in range(3)])
        await connection.send(b"\x01out")
        await connection.send(b"\x02err")
        await connection.send(b"\x03" + json.dumps(FAILED).encode())

    async with serving(serve, V5, V4) as api, exec_on(api) as process:
        await process.resize(132, 43)
        await process.write(b"hello")
        await process.close_input()
        assert await collected(process) == [(Channel.STDOUT, b"out"), (Channel.STDERR, b"err")]
        assert process.exit_code == 7
    path, *messages = got
    assert path == (
        "/api/v1/namespaces/n/pods/pod/exec?container=main&stdout=true&stderr=true&stdin=true"
        "&command=cat&command=a+b&command=-"
    )
    assert messages == [b'\x04{"Width": 132, "Height": 43}', b"\x00hello", b"\xff\x00"]


async def test_an_old_server_is_not_told_of_the_end_of_input() -> None:
    async def serve(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serving(serve, V4) as api, exec_on(api) as process:
        with pytest.raises(errors.GpuyardError, match="too old"):
            await process.close_input()


async def test_a_process_that_can_not_be_started_is_an_error_of_the_api() -> None:
    async def serve(connection: ServerConnection) -> None:
        await connection.send(b'\x03{"status": "Failure", "reason": "InternalError", "message": "no runc"}')

    async with serving(serve, V5) as api, exec_on(api) as process:
        with pytest.raises(errors.InternalError, match="no runc"):
            await collected(process)


@pytest.mark.parametrize("said", [b"\x03nonsense", b"\x03[]", b'\x03{"reason":"NonZeroExitCode"}', b"\x03{}"])
async def test_what_is_no_status_is_an_error(said: bytes) -> None:
    async def serve(connection: ServerConnection) -> None:
        await connection.send(said)

    async with serving(serve, V5) as api, exec_on(api) as process:
        with pytest.raises(errors.GpuyardError):
            await collected(process)


async def test_an_end_without_a_status_gives_no_exit_code() -> None:
    async def serve(connection: ServerConnection) -> None:
        await connection.send(b"\x01half")

    async with serving(serve, V5) as api, exec_on(api) as process:
        assert await collected(process) == [(Channel.STDOUT, b"half")]
        assert process.exit_code is None


async def test_a_refusal_before_the_upgrade_is_the_error_that_it_is() -> None:
    async def serve(connection: ServerConnection) -> None:
        raise AssertionError("it was refused")

    status = json.dumps({"kind": "Status", "reason": "Forbidden", "message": 'User "ann" cannot create'})
    async with serving(serve, V5, refusal=(HTTPStatus.FORBIDDEN, status)) as api:
        with pytest.raises(errors.Forbidden, match="cannot create"):
            async with exec_on(api):
                pass


async def test_a_server_of_other_protocols_is_told_from_one_that_cuts() -> None:
    async def serve(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serving(serve, "other") as api:
        with pytest.raises(errors.GpuyardError):
            async with exec_on(api):
                pass
