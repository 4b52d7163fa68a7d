"""Example 05 on a yard: two pods train one model, save when they are stopped, and resume after a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import Yard, own_yard, stopped_yard
from tests.examples.test_scripts import EXAMPLES, _torch
from tests.waiting import until

__all__ = ["_torch", "own_yard", "stopped_yard"]

pytestmark = pytest.mark.torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    leave = shutil.ignore_patterns("checkpoints", "__pycache__")
    return shutil.copytree(EXAMPLES / "05-multinode", tmp_path / "05-multinode", ignore=leave)


def test_it_saves_when_it_is_stopped_and_resumes_after_a_kill(own_yard: Yard, folder: Path) -> None:
    file = str(folder / "gpuyard.yaml")
    slow = ("--", "train.py", "--epochs", "6", "--pause", "1")
    own_yard.ok("run", "-f", file, "-n", "first", "-d", *slow)
    checkpoint = folder / "checkpoints/multinode.pt"
    until(checkpoint.exists, "the first epoch is saved")
    own_yard.ok("stop", "first")

    own_yard.ok("run", "-f", file, "-n", "second", "-d", *slow)
    second = own_yard.start("logs", "-f", "second")
    second.wait_for("Resuming after epoch")
    second.wait_for("epoch 4/6")
    os.kill(worker_of("second"), signal.SIGKILL)
    ended = second.finish()
    assert ended.code == 0
    resumed = [int(number) for number in re.findall(r"Resuming after epoch (\d+) from", ended.out)]
    assert len(resumed) == 2
    assert 1 <= resumed[0] < 4 <= resumed[1] < 6
    assert "Trained 6 epochs on 4 processes" in ended.out
    # Which pod notices first is torchrun's matter: its processes fail in both.
    codes = sorted(attempt["exit_code"] for attempt in own_yard.state("second")["attempts"])
    assert codes == [0, 0, 1, 193]


def worker_of(name: str) -> int:
    """The pid of one of the processes that torchrun started in the run's second pod."""
    wanted = {b"GROUP_RANK=1", b"LOCAL_RANK=1", f"PET_MASTER_ADDR={name}-0.{name}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if wanted <= {*(process / "environ").read_bytes().split(b"\0")}:
                return int(process.name)
    raise AssertionError("no worker runs")
