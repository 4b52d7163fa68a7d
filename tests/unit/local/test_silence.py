from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from gpuyard.local.runtime.procfs import read_stat
from gpuyard.local.silence import silence_of
from tests.waiting import until


@pytest.fixture
def process() -> Iterator[int]:
    """A process that sleeps."""
    with subprocess.Popen(["sleep", "1000"]) as started:
        until(lambda: _state(started.pid), "it sleeps", lambda state: state == "S")
        yield started.pid
        started.kill()


def _state(pid: int) -> str:
    found = read_stat(pid)
    return found.state if found else ""


def test_one_that_is_stopped_goes_on_by_a_signal(process: int) -> None:
    os.kill(process, signal.SIGSTOP)
    until(lambda: _state(process), "it stops", lambda state: state == "T")
    said = silence_of(process)
    assert said.is_stopped
    assert said.text == f'the yard (pid {process}, state "stopped") doesn\'t answer'
    assert said.remedy.startswith(f"`kill -CONT {process}` lets it go on")


def test_one_that_hangs_is_started_again(process: int) -> None:
    said = silence_of(process)
    assert not said.is_stopped
    assert said.text == f'the yard (pid {process}, state "sleeping") doesn\'t answer'
    assert "gpuyard down --keep && gpuyard up" in said.remedy


def test_one_that_can_not_be_seen_has_no_state() -> None:
    assert silence_of(2**31 - 1).text == f"the yard (pid {2**31 - 1}) doesn't answer"
