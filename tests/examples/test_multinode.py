"""Example 05, on a yard and on a cluster: two pods train one model, save when they are stopped, and resume
after a kill."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.e2e.conftest import shared_yard, storage, target, torch_options, yard
from tests.e2e.shell import Shell
from tests.examples.test_scripts import EXAMPLES, _torch
from tests.waiting import until

__all__ = ["_torch", "shared_yard", "storage", "target", "torch_options", "yard"]

pytestmark = pytest.mark.torch

#: Two torchruns start twice, on two busy cores.
PATIENCE_S = 240
_VOLUMES = "volumes:\n  /tmp/kept: {claim: kept, size: 1Gi}\n"
#: Ends one of the processes that torchrun started in a pod.
_KILL = """
import glob, os, signal
for folder in glob.glob("/proc/[0-9]*"):
    try:
        variables = open(folder + "/environ", "rb").read().split(b"\\0")
    except OSError:
        continue
    if b"LOCAL_RANK=1" in variables:
        os.kill(int(folder[6:]), signal.SIGKILL)
        print("killed")
        break
"""


@pytest.mark.usefixtures("storage")
def test_it_saves_when_it_is_stopped_and_resumes_after_a_kill(
    target: Shell, torch_options: tuple[str, ...]
) -> None:
    spec = (EXAMPLES / "05-multinode" / "gpuyard.yaml").read_text()
    target.script("gpuyard.yaml", spec + _VOLUMES)
    shutil.copy(EXAMPLES / "05-multinode" / "train.py", target.work)
    words = ("--", "train.py", "--epochs", "6", "--pause", "1", "--checkpoint", "/tmp/kept/multinode.pt")
    target.ok("run", "-f", "gpuyard.yaml", "-n", "first", "-d", *torch_options, *words)
    first = target.start("logs", "-f", "first")
    first.wait_for("epoch 1/6")
    target.ok("stop", "first")
    assert "Stopped: saved after epoch" in first.finish().out

    target.ok("run", "-f", "gpuyard.yaml", "-n", "second", "-d", *torch_options, *words)
    second = target.start("logs", "-f", "second")
    second.wait_for("Resuming after epoch")
    second.wait_for("epoch 4/6")
    assert target.ok("exec", "second", "--rank", "1", "--", "python3", "-c", _KILL) == "killed\n"
    until(second.process.poll, "the second attempt ends", lambda code: code is not None, timeout_s=PATIENCE_S)
    ended = second.finish()
    assert ended.code == 0
    resumed = [int(number) for number in re.findall(r"Resuming after epoch (\d+) from", ended.out)]
    assert len(resumed) == 2
    assert 1 <= resumed[0] < 4 <= resumed[1] < 6
    assert "Trained 6 epochs on 4 processes" in ended.out
    # Which pod notices first is torchrun's matter: its processes fail in both.
    codes = sorted(attempt["exit_code"] for attempt in target.state("second")["attempts"])
    assert codes == [0, 0, 1, 193]
    target.ok("rm", "first", "second")
    target.ok("volume", "rm", "kept")
