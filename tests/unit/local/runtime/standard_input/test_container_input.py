from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.standard_input.container_input import ContainerInput
from gpuyard.local.runtime.values import ContainerSpec
from tests.small_disk import mounted
from tests.waiting import until_async

Start = Callable[..., Awaitable[Container]]


async def _prints(container: Container, text: bytes) -> None:
    await until_async(container.log_path.read_bytes, f"{text!r} is printed", lambda log: text in log)


async def _attached(container: Container) -> ContainerInput:
    return await ContainerInput.open(container.folder, stdin=True)


def _write(given: ContainerInput, text: bytes) -> None:
    assert given.stdin is not None
    assert os.write(given.stdin, text) == len(text)


def _holders(pipe: str) -> list[int]:
    """Other processes that have this pipe."""
    found = []
    for pid in procfs.all_processes():
        with suppress(OSError):
            links = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
            found += [pid] * (pipe in links and pid != os.getpid())
    return found


async def test_a_terminal_is_one_for_the_command_and_outlives_the_daemon(
    start: Start, runtime: Runtimes
) -> None:
    shell = await start("sh", "-i", stdin=True, tty=True)
    first = await _attached(shell)
    first.resize(101, 34)
    _write(first, b"stty size; tty </dev/tty; echo $TERM rea''dy\n")
    await _prints(shell, b"xterm ready\r\n")
    assert b"34 101\r\n" in shell.log_path.read_bytes()
    assert b"not a tty" not in shell.log_path.read_bytes()
    _write(first, b"sh -c 'echo sl''eeps; exec sleep 600'\n")
    await _prints(shell, b"sleeps\r\n")
    _write(first, b"\3")
    _write(first, b"echo co''de $?\n")
    await _prints(shell, b"code 130\r\n")
    first.close_stdin()
    first.close()
    shell.close()
    found = await runtime.adopt(shell.folder)
    assert isinstance(found, Container)
    again = await _attached(found)
    _write(again, b"exit 7\n")
    assert (await found.wait()).code == 7
    assert not journals.is_locked(found.log_path)  # so nothing keeps the terminal any more
    assert (await _attached(found)).stdin is None
    again.close()


async def test_the_command_has_no_more_descriptors_than_without(start: Start) -> None:
    for fields in ({}, {"stdin": True}, {"stdin": True, "tty": True}):
        container = await start("sh", "-c", "echo $(ls /proc/self/fd)", **fields)
        await container.wait()
        assert container.log_path.read_text().split() == ["0", "1", "2", "3"]


async def test_an_input_for_one_ends_with_its_client(start: Start) -> None:
    container = await start("cat", stdin=True, stdin_once=True)
    client = await _attached(container)
    late = await _attached(container)
    assert late.stdin is None
    late.close()
    _write(client, b"a word")
    await _prints(container, b"a word")
    client.close()
    assert (await container.wait()).code == 0


async def test_an_input_for_many_stays_open(start: Start) -> None:
    container = await start("cat", stdin=True)
    for word in (b"one", b"two"):
        client = await _attached(container)
        _write(client, word)
        client.close_stdin()
        client.close()
    await _prints(container, b"onetwo")
    client = await _attached(container)
    pipe = os.readlink(f"/proc/self/fd/{client.stdin}")
    assert len(_holders(pipe)) >= 2
    await container.stop(0)
    assert (await container.wait()).code == 137
    await until_async(lambda: _holders(pipe), "nobody keeps the input", lambda pids: not pids)
    client.close()
    assert (await _attached(container)).stdin is None


async def test_who_asks_for_no_input_has_none(start: Start) -> None:
    container = await start("cat")
    assert (await container.wait()).code == 0


async def test_a_folder_may_be_longer_than_the_address_of_a_socket(runtime: Runtimes, folder: Path) -> None:
    spec = ContainerSpec("test-long", ["cat"], {"PATH": "/usr/bin:/bin"}, "/", stdin=True, stdin_once=True)
    container = await runtime.start(folder / ("a" * 120) / "start", spec)
    assert (container.folder / journals.STDIN).stat().st_mode & 0o777 == 0o600
    client = await _attached(container)
    _write(client, b"through")
    client.close()
    assert (await container.wait()).code == 0
    assert container.log_path.read_bytes() == b"through"


async def test_who_leaves_while_attaching_ends_the_input_for_one(start: Start) -> None:
    container = await start("cat", stdin=True, stdin_once=True)
    attaching = asyncio.create_task(_attached(container))
    await asyncio.sleep(0)  # it waits for the keeper
    attaching.cancel()
    await asyncio.wait([attaching])
    assert attaching.cancelled()
    async with asyncio.timeout(60):
        assert (await container.wait()).code == 0


async def test_a_terminal_goes_on_when_the_disk_of_its_log_is_full(runtime: Runtimes) -> None:
    lines = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $1; done; exit 5"
    with mounted("tmpfs", 1) as disk:
        spec = ContainerSpec(
            "test-full", ["sh", "-c", lines, "sh", "x" * 1000], {"PATH": "/usr/bin:/bin"}, "/", tty=True
        )
        container = await runtime.start(disk / "start", spec)
        async with asyncio.timeout(60):
            assert (await container.wait()).code == 5
        assert b"output is missing here" in container.log_path.read_bytes()


_ROGUE = """
import glob, os, socket, sys
os.chdir(glob.glob(sys.argv[1] + "/start-*")[0])
os.rename("stdin", "old")
listener = socket.socket(socket.AF_UNIX)
listener.bind("stdin")
listener.listen()
pipe = os.pipe()
print("ready", flush=True)
while True:
    connection = listener.accept()[0]
    socket.send_fds(connection, [b"0"], [pipe[1]])
    connection.close()
"""


async def test_a_container_that_replaces_its_socket_blocks_nobody(start: Start, folder: Path) -> None:
    container = await start(sys.executable, "-c", _ROGUE, str(folder), stdin=True)
    await _prints(container, b"ready\n")
    client = await _attached(container)
    journal = journals.read(container.folder / journals.JOURNAL)
    assert journal is not None
    if journal.isolation == "bubblewrap":
        assert client.stdin is None
    else:
        assert client.stdin is not None and not os.get_blocking(client.stdin)
    client.close()
