from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from gpuyard.local.http.streams.remote_command import serve
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.values import ENV_CONTAINER
from tests.waiting import until_async

from .conftest import V4, Served, rest_of, until_said


async def _until_alone(name: str) -> None:
    """Nothing that was started by an exec is left of this container but its command."""

    def left() -> set[int]:
        found = procfs.with_environment(f"{ENV_CONTAINER}={name}", procfs.all_processes())
        return {pid for pid in found if b"GPUYARD_EXEC=" in Path(f"/proc/{pid}/environ").read_bytes()}

    await until_async(lambda: not left(), "what an exec started has ended", not_yet=OSError)


async def test_a_command_runs_in_the_container_as_its_own_does(served: Served) -> None:
    async with served.running():
        pod = await served.up(main={"env": [{"name": "KEY", "value": "a b"}], "workingDir": "/usr/bin"})
        done = await served.exec(
            "sh", "-c", 'echo "$KEY $PWD ${TERM-no TERM} $0"; echo no >&2; exit 3', "word"
        )
        where = await served.exec("printenv", "PWD")
        first = await served.exec("cat", "/proc/1/comm")
        name = f"{pod['metadata']['uid']}_main_0"
        mark = await served.exec("printenv", ENV_CONTAINER)
    assert done.exit_code == 3
    assert done.channels[1].decode().splitlines()[0] == "a b /usr/bin no TERM word"
    assert done.channels[2] == b"no\n"
    assert where.channels[1] == b"/usr/bin\n"
    assert mark.channels[1].decode().strip() == name
    sandboxed = served.host.runtime.process.isolation.level == "bubblewrap"
    assert (first.channels[1] == b"bwrap\n") is sandboxed


@pytest.mark.parametrize(("env", "term"), [([], b"xterm"), ([{"name": "TERM", "value": "vt100"}], b"vt100")])
async def test_a_terminal_has_a_type(served: Served, env: list[dict[str, str]], term: bytes) -> None:
    async with served.running():
        await served.up(main={"env": env})
        query: dict[str, Any] = {"command": ["printenv", "TERM"], "stdin": "true", "stdout": "true"}
        async with served.connect("a/exec", **query, tty="true") as socket:
            said = await until_said(socket, term)
            await rest_of(socket, said)
    assert said.channels[1].strip() == term


async def test_input_and_output_of_megabytes_come_through_whole(served: Served) -> None:
    text = os.urandom(6 << 20)
    async with served.running():
        await served.up()
        done = await served.exec("cat", stdin=text)
    assert (done.exit_code, done.channels[1] == text) == (0, True)


async def test_a_terminal_has_a_size_job_control_and_control_c(served: Served) -> None:
    async with served.running():
        await served.up()
        query: dict[str, Any] = {"command": ["sh", "-i"], "stdin": "true", "stdout": "true", "tty": "true"}
        async with served.connect("a/exec", **query) as socket:
            await socket.send(b"\4" + json.dumps({"Width": 91, "Height": 17}).encode())
            await socket.send(b"\0tty; stty size; ps -o stat= -p $$; PS1=; echo read''y\n")
            said = await until_said(socket, b"\nready")
            await socket.send(b"\0trap 'echo caug''ht' INT; echo be''gun; cat\n")
            await until_said(socket, b"\nbegun", said)
            # It is read by the terminal and not by cat.
            await socket.send(b"\0one\n")
            await until_said(socket, b"one\r\none\r\n", said)
            await socket.send(b"\0\3")
            await until_said(socket, b"^Ccaught", said)
            await socket.send(b"\0exit 4\n")
            await rest_of(socket, said)
    assert b"/dev/pts/" in said.channels[1]
    assert b"17 91" in said.channels[1]
    assert 2 not in said.channels
    assert said.exit_code == 4


async def test_a_program_that_isn_t_there_is_named(served: Served) -> None:
    async with served.running():
        await served.up()
        done = await served.exec("no-such-program")
    assert (done.status["status"], done.status["reason"]) == ("Failure", "InternalError")
    assert 'exec: "no-such-program": executable file not found in $PATH' in done.status["message"]


async def test_a_container_that_does_not_run_is_told_as_the_end_of_the_stream(served: Served) -> None:
    async with served.running():
        await served.host.create("a", "sh", "-c", "exit 3")
        await served.host.finished("a")
        done = await served.exec("true")
    assert done.status["reason"] == "BadRequest"
    assert (
        'container "main" in pod "a" isn\'t running: it has ended (Error, exit code 3)'
        in done.status["message"]
    )


async def test_what_the_client_left_is_ended(served: Served) -> None:
    async with served.running():
        pod = await served.up()
        name = f"{pod['metadata']['uid']}_main_0"
        for tty in ("false", "true"):
            command = ["sh", "-c", "trap '' HUP; echo on; sleep 600 & wait"]
            query: dict[str, Any] = {"command": command, "stdin": "true", "stdout": "true", "tty": tty}
            async with served.connect("a/exec", V4, **query) as socket:
                await until_said(socket, b"on")
                socket.transport.abort()
            await _until_alone(name)
        assert (await served.host.get("a"))["status"]["phase"] == "Running"


async def test_a_client_that_writes_what_nobody_reads_and_leaves(served: Served) -> None:
    async with served.running():
        pod = await served.up()
        query: dict[str, Any] = {"command": ["sleep", "600"], "stdin": "true", "stdout": "true"}
        async with served.connect("a/exec", **query) as socket:
            piece = b"\0" + bytes(1_000_000)

            async def fill() -> None:
                while True:
                    await socket.send(piece)

            filling = asyncio.create_task(fill())
            # It comes to a stop: the yard takes no more than a little.
            transport = socket.transport
            await until_async(lambda: transport.get_write_buffer_size() > 400_000, "the client waits")
            filling.cancel()
            transport.abort()
        await _until_alone(f"{pod['metadata']['uid']}_main_0")


async def test_a_client_that_never_reads_stops_the_program_and_nobody_else(served: Served) -> None:
    async with served.running():
        pod = await served.up()
        reader, writer = await asyncio.open_unix_connection(str(served.host.paths.api_socket))
        path = "/api/v1/namespaces/default/pods/a/exec?command=head&command=-c1G&command=/dev/zero&stdout=1"
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
            f"sec-websocket-protocol: {V4}\r\n\r\n".encode()
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        assert (await served.exec("echo", "others")).channels[1] == b"others\n"
        writer.transport.abort()
        await _until_alone(f"{pod['metadata']['uid']}_main_0")


async def test_the_end_of_the_container_ends_what_runs_in_it(served: Served) -> None:
    end = str(served.host.paths.data_dir / "end")
    async with served.running():
        await served.up("a", "sh", "-c", 'echo up; while ! [ -e "$0" ]; do sleep 0.01; done', end)
        query: dict[str, Any] = {
            "command": ["sh", "-c", "trap '' TERM HUP; echo on; sleep 600"],
            "stdout": "true",
        }
        async with served.connect("a/exec", **query) as socket:
            said = await until_said(socket, b"on")
            assert (await served.exec("touch", end)).exit_code in (0, 137)
            await rest_of(socket, said)
        await served.host.finished("a")
    assert said.exit_code == 137


async def test_a_hundred_at_once(served: Served) -> None:
    async with served.running():
        await served.up()
        done = await asyncio.gather(*(served.exec("sh", "-c", f"echo {n}; exit {n}") for n in range(100)))
    assert [one.exit_code for one in done] == list(range(100))
    assert [one.channels[1] for one in done] == [b"%d\n" % n for n in range(100)]


async def test_garbage_ends_the_connection_and_the_program(served: Served) -> None:
    async with served.running():
        pod = await served.up()
        query: dict[str, Any] = {"command": ["sleep", "600"], "stdin": "true", "stdout": "true"}
        for sent in (b"\xff\xff\xff\xff\xff", b"\x82\x05abcde"):  # no frame; one without a mask
            async with served.connect("a/exec", **query) as socket:
                socket.transport.write(sent)
                await rest_of(socket)
                assert socket.close_code == 1002
            await _until_alone(f"{pod['metadata']['uid']}_main_0")
        # What is well-formed and means nothing is passed over, as in Kubernetes.
        async with served.connect("a/exec", **{**query, "command": ["cat"]}) as socket:
            for message in (b"", b"\7x", b"\4{", b'\4{"Width":-1,"Height":1e9}', b"\xff\2", b"\xff"):
                await socket.send(message)
            await socket.send(b"\0through")
            await socket.send(b"\xff\0")
            assert (await rest_of(socket)).channels[1] == b"through"


async def test_who_attaches_sees_what_is_printed_from_then_on_and_the_end(served: Served) -> None:
    go = served.host.paths.data_dir / "go"
    async with served.running():
        command = 'echo up; while ! [ -e "$0" ]; do sleep 0.01; done; echo new; exit 3'
        await served.up("a", "sh", "-c", command, str(go))
        async with served.connect("a/attach", stdin="true", stdout="true", stderr="true") as socket:
            assert await socket.recv() == b"\1"
            await socket.send(b"\0nobody reads this")
            go.touch()
            said = await rest_of(socket)
        await served.host.finished("a")
        async with served.connect("a/attach", stdout="true") as socket:
            late = await rest_of(socket)
    assert (said.channels[1], said.exit_code) == (b"new\n", 0)
    assert "isn't running: it has ended (Error, exit code 3)" in late.status["message"]


class _Ended:
    """The streams of a program that has ended, whose output somebody else still has."""

    stdin = None

    def __init__(self, output: int) -> None:
        self.outputs = {1: output}

    async def wait(self) -> int:
        return 0

    async def close(self) -> None:
        os.close(self.outputs[1])


@pytest.mark.parametrize("tty", [False, True])
async def test_what_goes_on_printing_does_not_keep_the_end_back(tty: bool) -> None:
    ours, theirs = os.openpty() if tty else os.pipe()
    os.set_blocking(ours, False)
    read = 0

    async def send_from(channel: int, buffer: bytearray, size: int) -> bool:
        nonlocal read
        read += size
        await until_async(lambda: select.select([ours], [], [], 0)[0], "there is more")
        return True

    client = AsyncMock(gone=asyncio.Event(), send_from=send_from)
    client.receive.side_effect = asyncio.Event().wait
    with subprocess.Popen(["yes"], stdin=subprocess.DEVNULL, stdout=theirs) as printing:
        os.close(theirs)
        try:
            async with asyncio.timeout(60):
                await serve(client, cast("Any", _Ended(ours)), tty=tty)
        finally:
            printing.kill()
    assert read < 3 << 20
    client.send.assert_awaited_with(3, b'{"metadata":{},"status":"Success"}')


async def test_who_attaches_to_a_terminal_types_into_it_and_sees_it(served: Served) -> None:
    async with served.running():
        await served.up("a", "sh", "-c", "echo up; exec sh -i", main={"stdin": True, "tty": True})
        for _ in range(2):  # the terminal stays when a client leaves
            async with served.connect("a/attach", stdin="true", stdout="true", tty="true") as socket:
                await socket.send(b'\4{"Width":99,"Height":33}')
                await socket.send(b"\0stty size; echo en''d\n")
                assert b"33 99\r\n" in (await until_said(socket, b"end\r\n")).channels[1]
        async with served.connect("a/attach", stdin="true", stdout="true", tty="true") as socket:
            await socket.send(b"\0exit 3\n")
            assert (await rest_of(socket)).exit_code == 0
        (status,) = (await served.host.finished("a"))["status"]["containerStatuses"]
        assert status["state"]["terminated"]["exitCode"] == 3


async def test_an_input_for_one_is_left_to_the_one_who_writes(served: Served) -> None:
    async with served.running():
        await served.up("a", "sh", "-c", "echo up; exec cat", main={"stdin": True, "stdinOnce": True})
        async with served.connect("a/attach", stdout="true") as looking:
            async with served.connect("a/attach", stdin="true", stdout="true") as socket:
                await socket.send(b"\0a word\n")
                await until_said(socket, b"a word\n")
            assert b"a word\n" in (await rest_of(looking)).channels[1]
        await served.host.finished("a")
