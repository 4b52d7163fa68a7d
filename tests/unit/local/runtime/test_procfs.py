from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.members import patiently
from gpuyard.local.runtime.procfs import ProcessStat
from gpuyard.local.runtime.spawn import pidfd_of
from tests.waiting import until, until_async


def test_a_command_with_spaces_and_parentheses() -> None:
    fields = " ".join(["S", "7", "8", "9", *["0"] * 15, "4711", "0", "0"])
    assert procfs.parse_stat(f"12 (a) b (c) {fields}") == ProcessStat(12, "S", 7, 9, 4711)


@pytest.mark.parametrize("text", ["", "12", "12 (sh) S 1"])
def test_no_stat_line(text: str) -> None:
    with pytest.raises(ValueError, match="no line of /proc"):
        procfs.parse_stat(text)


@pytest.mark.parametrize(
    ("handler", "default"),
    [(signal.SIG_DFL, True), (signal.SIG_IGN, False), (lambda number, frame: None, False)],
    ids=["default", "ignored", "handled"],
)
def test_whether_a_signal_has_its_default_action(handler: Any, default: bool) -> None:
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        assert procfs.has_default_action(os.getpid(), signal.SIGUSR2) is default
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert not procfs.has_default_action(2**22 + 1, signal.SIGUSR2)


def test_a_signal_that_is_waited_for_has_no_default_action() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.sigwait({signal.SIGUSR2})"],
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}) and None,
    ) as waiting:
        assert procfs.has_default_action(waiting.pid, signal.SIGUSR1)
        assert not procfs.has_default_action(waiting.pid, signal.SIGUSR2)
        waiting.send_signal(signal.SIGUSR2)
    assert waiting.returncode == 0


def test_own_process() -> None:
    table = procfs.all_processes()
    me = table[os.getpid()]
    assert (me.parent, me.session) == (os.getppid(), os.getsid(0))
    assert os.getpid() in procfs.descendants([os.getppid()], table)
    assert procfs.innermost_pid(os.getpid()) == os.getpid()
    assert procfs.read_stat(2**22 + 1) is None


@pytest.mark.parametrize(
    "look",
    [
        procfs.read_stat,
        procfs.innermost_pid,
        lambda pid: procfs.has_default_action(pid, signal.SIGUSR2),
        lambda pid: procfs.with_environment("A=b", [pid]),
        lambda pid: procfs.environment_value(pid, "A"),
        lambda pid: procfs.all_processes(),
    ],
)
def test_a_process_that_cannot_be_looked_at_is_not_gone(
    no_descriptors: Callable[[], AbstractContextManager[None]], look: Callable[[int], object]
) -> None:
    with no_descriptors(), pytest.raises(OSError) as raised:
        look(os.getpid())
    assert procfs.is_shortage(raised.value)


def test_a_variable_that_a_process_was_started_with() -> None:
    with subprocess.Popen(
        ["sleep", "600"], env={"PATH": os.environ["PATH"], "A": "b=c", "AA": "d"}
    ) as process:
        # The kernel shows it a moment after it has begun the program.
        until(lambda: procfs.environment_value(process.pid, "A"), "its environment is there")
        found = [procfs.environment_value(process.pid, name) for name in ("A", "AA", "B")]
        process.kill()
    assert found == ["b=c", "d", ""]


async def test_whoever_waits_looks_again(
    no_descriptors: Callable[[], AbstractContextManager[None]],
) -> None:
    looks = 0

    def look() -> ProcessStat | None:
        nonlocal looks
        looks += 1
        return procfs.read_stat(os.getpid())

    with no_descriptors():
        waiting = asyncio.create_task(patiently(look))
        await until_async(lambda: looks > 1 or waiting.done(), "it looks again")
        assert not waiting.done()
    found = await waiting
    assert found is not None
    assert found.pid == os.getpid()


def test_a_process_that_cannot_be_opened_has_not_ended(
    no_descriptors: Callable[[], AbstractContextManager[None]],
) -> None:
    me = procfs.read_stat(os.getpid())
    assert me is not None
    with no_descriptors(), pytest.raises(errors.ProcessError, match="Too many open files"):
        pidfd_of(me)


def test_descendants_of_a_tree() -> None:
    def process(pid: int, parent: int) -> ProcessStat:
        return ProcessStat(pid, "S", parent, 1, 0)

    table = {pid: process(pid, parent) for pid, parent in [(2, 1), (3, 2), (4, 3), (5, 1), (6, 6)]}
    assert procfs.descendants([2], table) == {3, 4}
    assert procfs.descendants([6], table) == {6}  # no endless walk, whatever /proc says
    assert procfs.descendants([9], table) == set()


def test_who_has_no_parent_of_its_own() -> None:
    line = "sh -c 'echo $$; sleep 600; true'; true"
    with subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        inner = int(outer.stdout.readline())
        assert procfs.topmost({outer.pid, inner, os.getpid(), 2**22 + 1}) == {os.getpid()}
        assert procfs.topmost({outer.pid, inner}) == {outer.pid}
        assert procfs.topmost({inner}) == {inner}
        os.kill(outer.pid, signal.SIGKILL)
        for pid in procfs.descendants([inner], procfs.all_processes()) | {inner}:
            os.kill(pid, signal.SIGKILL)
