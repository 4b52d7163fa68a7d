"""Commands in containers of podman, as clients of the API run them."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.values import ENV_EXEC
from tests.containers.conftest import ImageHost, Tiny
from tests.unit.local.http.streams.conftest import Served, rest_of, until_said
from tests.waiting import until_async


@pytest.fixture
def served(host: ImageHost) -> Served:
    return Served(host)


async def _up(host: ImageHost, tiny: Tiny) -> str:
    """A container that goes on; the uid of its pod."""
    pod = await host.create_in(tiny.reference, "a", main={"args": ["echo up; sleep 600"]})
    await host.says("a", "up")
    await host.until("a", lambda pod: pod["status"].get("phase") == "Running")
    return str(pod["metadata"]["uid"])


async def test_a_command_has_the_image_its_pipes_and_an_exit_code(
    served: Served, host: ImageHost, tiny: Tiny
) -> None:
    async with served.running():
        await _up(host, tiny)
        done = await served.exec("sh", "-c", "echo $FROM_IMAGE; cat; echo no >&2; exit 3", stdin=b"in")
        missing = await served.exec("no-such-program")
    assert (done.exit_code, done.channels[1], done.channels[2]) == (3, b"yes\nin", b"no\n")
    assert missing.exit_code == 127
    assert b"no-such-program" in missing.channels[2]


async def test_a_terminal_has_a_size_and_control_c(served: Served, host: ImageHost, tiny: Tiny) -> None:
    query: dict[str, Any] = {"command": ["sh"], "stdin": "true", "stdout": "true", "tty": "true"}
    async with served.running():
        await _up(host, tiny)
        async with served.connect("a/exec", **query) as socket:
            await socket.send(b'\4{"Width": 91, "Height": 17}')
            size = "until [ \"$(busybox stty size)\" = '17 91' ]; do sleep 0.1; done; echo rea''dy\n"
            await socket.send(b"\0" + size.encode())
            said = await until_said(socket, b"ready")
            await socket.send(b"\0sh -c \"echo wa''its; sleep 600\"\n")
            await until_said(socket, b"waits", said)
            await socket.send(b"\0\3exit 4\n")
            await rest_of(socket, said)
    assert said.exit_code == 4


async def test_what_the_client_left_is_ended(served: Served, host: ImageHost, tiny: Tiny) -> None:
    query: dict[str, Any] = {"command": ["sh", "-c", "trap '' HUP; echo on; sleep 600"], "stdout": "true"}
    async with served.running():
        uid = await _up(host, tiny)

        def left() -> set[int]:
            marks = {pid: procfs.environment_value(pid, ENV_EXEC) for pid in procfs.all_processes()}
            return {pid for pid, mark in marks.items() if mark.startswith(f"{uid}_")}

        async with served.connect("a/exec", **query) as socket:
            await until_said(socket, b"on")
            assert len(left()) > 1
            socket.transport.abort()
        await until_async(lambda: not left(), "what an exec started has ended")
        assert (await host.get("a"))["status"]["phase"] == "Running"


async def test_who_attaches_gives_a_container_its_input(served: Served, host: ImageHost, tiny: Tiny) -> None:
    asked = {"args": ["echo up; cat; echo end"], "stdin": True, "stdinOnce": True}
    async with served.running():
        await host.create_in(tiny.reference, "a", main=asked)
        await host.says("a", "up")
        await host.until("a", lambda pod: pod["status"].get("phase") == "Running")
        async with served.connect("a/attach", stdin="true", stdout="true") as socket:
            await socket.send(b"\0a word\n")
            await socket.send(b"\xff\0")
            assert (await rest_of(socket)).channels[1] == b"a word\nend\n"
