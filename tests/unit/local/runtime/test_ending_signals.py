from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.values import ExitReason
from tests.waiting import until_async

Start = Callable[..., Awaitable[Container]]
LONG_S = 60.0
PYTHON = "/usr/bin/python3"


def _left_of(container: Container) -> list[str]:
    """Command lines of processes that still write to the container's log."""
    left = []
    for fd in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if fd.readlink() == container.log_path:
                left.append((fd.parent.parent / "cmdline").read_text())
        except OSError:
            continue
    return left


async def _stopped(container: Container, grace_s: float) -> int:
    waiting = asyncio.create_task(container.wait(), name="wait")
    await container.stop(grace_s)
    exit_ = await waiting
    assert _left_of(container) == []
    assert exit_.reason in (ExitReason.ERROR, ExitReason.COMPLETED)
    return exit_.code


async def test_python_without_handlers(start: Start) -> None:
    container = await start(PYTHON, "-uc", "print('up'); import time; time.sleep(60)")
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, LONG_S) == 128 + signal.SIGTERM
    assert container.log_path.read_bytes() == b"up\n"


async def test_shell_script_with_a_child_that_cleans_up(start: Start) -> None:
    """The shell dies of SIGTERM at once; its child gets SIGTERM and the rest of the grace."""
    child = (
        "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(print('saved'))); "
        "print('up'); time.sleep(60)"
    )
    container = await start("sh", "-c", f'{PYTHON} -uc "{child}"; echo not reached')
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, LONG_S) == 128 + signal.SIGTERM
    assert container.log_path.read_bytes() == b"up\nsaved\n"


async def test_program_that_traps_term_chooses_its_code(start: Start) -> None:
    container = await start("sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done")
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, LONG_S) == 5
    assert container.log_path.read_bytes() == b"up\nbye\n"


async def test_workers_of_a_program_that_traps_term_are_left_to_it(start: Start) -> None:
    """A trainer saves with its data loaders' help: they must not die under it."""
    program = (
        "import os,signal,subprocess,sys,time\n"
        "worker = subprocess.Popen(['sleep', '60'])\n"
        "def save(*a):\n"
        "    time.sleep(0.05); print('worker', worker.poll()); worker.kill(); sys.exit(0)\n"
        "signal.signal(15, save); print('up'); time.sleep(60)\n"
    )
    container = await start(PYTHON, "-uc", program)
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, LONG_S) == 0
    assert container.log_path.read_bytes() == b"up\nworker None\n"


async def test_what_ignores_term_is_killed_after_the_grace(start: Start) -> None:
    container = await start(
        "sh", "-c", "trap '' TERM; sleep 60 & setsid sleep 61 & echo up; while :; do sleep 1; done"
    )
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, 0.05) == 128 + signal.SIGKILL


async def test_no_grace_is_a_kill(start: Start) -> None:
    container = await start("sh", "-c", "trap 'echo trapped' TERM; echo up; while :; do sleep 0.01; done")
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, 0) == 128 + signal.SIGKILL
    assert container.log_path.read_bytes() == b"up\n"


async def test_a_second_stop_shortens_the_grace(start: Start) -> None:
    container = await start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    await until_async(container.log_path.read_bytes, "it prints")
    patient = asyncio.create_task(container.stop(LONG_S), name="patient")
    assert await _stopped(container, 0) == 128 + signal.SIGKILL
    await patient


@pytest.mark.parametrize("grace_s", [0, LONG_S])
async def test_stop_in_the_middle_of_the_start(start: Start, grace_s: float) -> None:
    for _ in range(10):
        container = await start("sleep", "60")
        assert await _stopped(container, grace_s) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)


async def test_stop_of_one_that_has_ended(start: Start) -> None:
    container = await start("sh", "-c", "exit 4")
    exit_ = await container.wait()
    assert exit_.code == 4
    await container.stop(0)


async def test_nothing_outlives_the_command(start: Start) -> None:
    container = await start("sh", "-c", "sleep 60 & setsid sleep 61 & (setsid sleep 62 &) ; exit 0")
    exit_ = await container.wait()
    assert (exit_.code, exit_.reason) == (0, ExitReason.COMPLETED)
    assert _left_of(container) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
async def test_death_by_a_signal_of_its_own(start: Start, number: signal.Signals) -> None:
    container = await start("sh", "-c", f"echo up; kill -{int(number)} $$")
    exit_ = await container.wait()
    assert (exit_.code, exit_.reason) == (128 + number, ExitReason.ERROR)
    assert container.log_path.read_bytes() == b"up\n"


async def test_keeper_of_the_exit_code_killed_by_somebody_else(start: Start) -> None:
    container = await start("sh", "-c", "echo up; sleep 60")
    await until_async(container.log_path.read_bytes, "it prints")
    journal = journals.read(container.folder / journals.JOURNAL)
    assert journal is not None and journal.started is not None
    os.kill(journal.started.pid, signal.SIGKILL)
    exit_ = await container.wait()
    assert (exit_.code, exit_.reason) == (137, ExitReason.UNKNOWN)
    assert _left_of(container) == []


_SAVES = """
import pathlib, signal, sys, time
def save(number, frame):
    for step in range(50):
        print("saving", step, flush=True)
        time.sleep(0.005)
    pathlib.Path("checkpoint").write_text("whole")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("up", flush=True)
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize("shell", ["bash", "dash"])
async def test_a_program_before_a_pipe_can_save(start: Start, folder: Path, shell: str) -> None:
    (folder / "ck.py").write_text(_SAVES)
    line = f"{sys.executable} ck.py 2>&1 | tee log.txt"
    container = await start(shell, "-c", line)
    await until_async(container.log_path.read_text, "it prints up", lambda log: "up" in log)
    await asyncio.gather(container.stop(LONG_S), container.wait())
    assert (folder / "checkpoint").read_text() == "whole"
    assert (folder / "log.txt").read_text().splitlines()[-1] == "saving 49"
    assert container.log_path.read_text().splitlines()[-1] == "saving 49"


async def test_workers_of_a_program_that_a_shell_started_are_left_to_it(start: Start, folder: Path) -> None:
    """A data loader's worker that gets SIGTERM, too, breaks the training before it has saved."""
    (folder / "train.py").write_text(
        "import os, signal, subprocess, time\n"
        "worker = subprocess.Popen(['sleep', '60'])\n"
        "def save(*_):\n"
        "    time.sleep(0.2); print('worker', worker.poll(), flush=True); os._exit(0)\n"
        "signal.signal(15, save); print('up', flush=True); time.sleep(60)\n"
    )
    container = await start("bash", "-c", f"({PYTHON} train.py; echo never); echo never")
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, LONG_S) == 128 + signal.SIGTERM
    assert container.log_path.read_bytes() == b"up\nworker None\n"


async def test_a_slow_reader_gets_to_its_end(start: Start, folder: Path) -> None:
    (folder / "ck.py").write_text(_SAVES)
    line = f"{PYTHON} ck.py | while read line; do echo $line; sleep 0.01; done"
    container = await start("bash", "-c", line)
    await until_async(container.log_path.read_bytes, "it prints")
    assert await _stopped(container, LONG_S) == 128 + signal.SIGTERM
    assert container.log_path.read_text().splitlines() == ["up", *(f"saving {n}" for n in range(50))]


@pytest.mark.parametrize("shell", ["bash", "dash"])
async def test_a_program_before_a_pipe_gets_the_signal_that_was_chosen(
    start: Start, folder: Path, shell: str
) -> None:
    (folder / "ck.py").write_text(_SAVES.replace("SIGTERM", "SIGUSR1"))
    container = await start(shell, "-c", f"{PYTHON} ck.py 2>&1 | tee log.txt")
    await until_async(container.log_path.read_bytes, "it prints")
    waiting = asyncio.create_task(container.wait(), name="wait")
    await container.stop(LONG_S, signal.SIGUSR1)
    await waiting
    assert (folder / "checkpoint").read_text() == "whole"
    assert (folder / "log.txt").read_text().splitlines()[-1] == "saving 49"
