"""Two yards on one machine with real GPUs, as far as NVML's stub goes: no GPU has two owners."""

from __future__ import annotations

import os
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
        until(lambda: self._node()["gpus"], "the yard has GPUs", not_yet=(AssertionError, IndexError))

    def _node(self) -> dict[str, Any]:
        found: dict[str, Any] = self.yard.json("nodes")[0]
        return found

    def free(self) -> int:
        return int(self._node()["gpus_free"])

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
def processes_file(tmp_path: Path) -> Path:
    """What the stub says of processes."""
    file = tmp_path / "processes"
    file.touch()
    return file


@pytest.fixture
def make_real(tmp_path: Path, processes_file: Path) -> Iterator[Callable[[], RealYard]]:
    """Makes yards of one machine with two GPUs."""
    if find_lock_folder() is None:
        pytest.skip("this machine has no folder that all users share")
    build_nvml(tmp_path / "libnvidia-ml.so.1")
    stub = {
        "LD_LIBRARY_PATH": str(tmp_path),
        "NVML_STUB_GPUS": "2",
        "NVML_STUB_PROCESSES": str(processes_file),
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
    other.yard.ok("run", "-d", "-n", "more", "--gpus", "1", *RUN)
    owner = f"({one.yard.home}), run train, since"
    explained = until(
        lambda: other.yard.ok("explain", "more"), "it names the owner", lambda out: owner in out
    )
    assert "is held by the yard of" in explained
    assert "wait until it is released" in explained
    one.start()
    assert one.device("train") == first
    # Offered to who waits for it as soon as it is released.
    one.yard.ok("rm", "--force", "train")
    assert until(lambda: other.device("more"), "the other yard has it") == first


def test_a_foreign_process_keeps_its_gpu_and_a_run_does_not(
    make_real: Callable[[], RealYard], processes_file: Path
) -> None:
    yard = make_real()
    marked = {**os.environ, "GPUYARD_CONTAINER": "uid_main_0"}
    with subprocess.Popen(["sleep", "600"], env=marked) as foreign:
        # What it calls itself makes it no run: no yard has the GPU.
        processes_file.write_text(f"0 compute {foreign.pid} 21504 0\n")
        until(yard.free, "one GPU is left", lambda free: free == 1)
        said = f"pid {foreign.pid} (sleep)"
        until(
            lambda: yard.yard.ok("nodes"),
            "it is named",
            lambda out: said in out and "21 GiB, not a run" in out,
        )
        (given,) = yard.run("train", 1)
        assert given.endswith("1")
        foreign.kill()
    until(yard.free, "the other GPU is free again", lambda free: free == 1)
    # The run's own processes are its own.
    pods = [pod.name for pod in yard.yard.paths.pods_dir.iterdir()]
    pid = processes([f"GPUYARD_CONTAINER={pods[0]}_".encode()])[-1]
    processes_file.write_text(f"1 compute {pid} 21504 0\n0 compute {os.getpid()} 0 0\n")
    until(lambda: yard.yard.ok("nodes"), "it is looked at", lambda out: f"pid {os.getpid()} " in out)
    assert f"pid {pid} " not in yard.yard.ok("nodes")
    assert yard.free() == 1


def test_a_yard_that_is_away_keeps_no_gpu_once_its_run_has_ended(make_real: Callable[[], RealYard]) -> None:
    one, other = make_real(), make_real()
    held = one.run("train", 2)
    marks = [f"GPUYARD_CONTAINER={pod.name}_".encode() for pod in one.yard.paths.pods_dir.iterdir()]
    one.kill()
    for pid in processes(marks):
        kill(pid)
    assert other.run("mine", 2) == held
