"""Two yards on one machine with real GPUs, as far as NVML's stub goes: no GPU has two owners."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gpuyard.devices.gpu_locks import find_lock_folder
from tests.fake_driver import build_nvml
from tests.waiting import until

from .conftest import Yard, kill, make_yard, processes

#: The stub's GPUs are there for a run that doesn't look for them.
RUN = ("--env", "GPUYARD_ALLOW_CPU=1", "--", "sleep", "600")


class RealYard:
    """A yard whose daemon has the stub's environment, which no command hands on."""

    def __init__(self, yard: Yard, environ: dict[str, str]) -> None:
        self.yard = yard
        self._environ = {**yard.environ, **environ}
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.yard.work / "daemon.log").open("ab")
        with log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "gpuyard.local.daemon"], env=self._environ, stdout=log, stderr=log
            )
        until(self.free, "the yard has its GPUs", not_yet=(AssertionError, IndexError))

    def free(self) -> int:
        return int(self.yard.json("nodes")[0]["gpus_free"])

    def kill(self) -> None:
        assert self._daemon is not None
        kill(self._daemon.pid)
        self._daemon.wait()

    def device(self, run: str) -> str:
        pods = self.yard.get(f"/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run={run}")["items"]
        found: Any = pods[0]["metadata"].get("annotations", {}).get("gpuyard.io/devices", "")
        return str(found)

    def run(self, name: str, gpus: int) -> set[str]:
        self.yard.background(name, "--gpus", str(gpus), *RUN)
        return set(until(lambda: self.device(name), f"{name} has its GPUs").split(","))

    def end(self) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait()


@pytest.fixture
def make_real(tmp_path: Path) -> Iterator[Callable[[], RealYard]]:
    """Makes yards of one machine with two GPUs."""
    if find_lock_folder() is None:
        pytest.skip("this machine has no folder that all users share")
    build_nvml(tmp_path / "libnvidia-ml.so.1")
    stub = {
        "LD_LIBRARY_PATH": str(tmp_path),
        "NVML_STUB_GPUS": "2",
        "NVML_STUB_SERIAL": str(random.randrange(1, 1 << 31)),
    }
    with ExitStack() as stack:

        def make() -> RealYard:
            real = RealYard(stack.enter_context(make_yard()), stub)
            stack.callback(real.end)
            real.start()
            return real

        yield make


def test_a_gpu_has_one_owner_through_kill_and_restart(make_real: Callable[[], RealYard]) -> None:
    one, other = make_real(), make_real()
    (first,) = one.run("train", 1)
    (second,) = other.run("mine", 1)
    assert first != second

    # Whoever is killed goes on having what its run has.
    one.kill()
    other.yard.ok("rm", "--force", "mine")
    assert other.run("again", 1) == {second}
    one.start()
    assert one.device("train") == first
    # Released at once.
    one.yard.ok("rm", "--force", "train")
    assert other.run("more", 1) == {first}


def test_a_yard_that_is_away_keeps_no_gpu_once_its_run_has_ended(make_real: Callable[[], RealYard]) -> None:
    one, other = make_real(), make_real()
    held = one.run("train", 2)
    marks = [f"GPUYARD_CONTAINER={pod.name}_".encode() for pod in one.yard.paths.pods_dir.iterdir()]
    one.kill()
    for pid in processes(marks):
        kill(pid)
    assert other.run("mine", 2) == held
