"""`exec` beside kubectl's on the same yard, in turns, and `cp` of one file out of a run."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.row import Row
from bench.yard import GPUYARD, BenchYard, running_yard

_TIMES = 9
_COPIES = 3
_BYTES = 1_000_000_000
_PODS = "gpuyard.io/run=looked-into"


def measure() -> list[Row]:
    """The medians of `exec`, and the best of a few copies: the first one fills the cache of the disk."""
    # Runs don't see the yard's own folder.
    with running_yard() as yard, tempfile.TemporaryDirectory(prefix="gpuyard-bench-") as folder:
        yard.run("run", "-d", "-n", "looked-into", "--workdir", folder, "--", "sleep", "3600")
        config = yard.run("kubeconfig").strip()
        kubectl = ["kubectl", "--kubeconfig", config]
        pod = _running_pod(yard, kubectl)
        ours, peer = [], []
        for _ in range(_TIMES):
            peer.append(_time_s(yard, [*kubectl, "exec", pod, "--", "true"]))
            ours.append(_time_s(yard, [str(GPUYARD), "exec", "looked-into", "--", "true"]))
        beside = statistics.median(peer)
        exec_row = Row("exec -- true, yard", statistics.median(ours), "s", 0.35, "kubectl exec, now", beside)
        return [exec_row, _copy(yard, Path(folder))]


def _copy(yard: BenchYard, folder: Path) -> Row:
    big, taken = folder / "big", folder / "taken"
    _fill(big)
    command = [str(GPUYARD), "cp", f"looked-into:{big}", str(taken)]
    rates = [_BYTES / 1e6 / _time_s(yard, command) for _ in range(_COPIES)]
    began = time.perf_counter()
    subprocess.run(["cp", big, taken], check=True)
    peer = _BYTES / 1e6 / (time.perf_counter() - began)
    return Row("cp of 1 GB from a run, yard", max(rates), "MB/s", 400, "cp of the file, now", peer, True)


def _fill(file: Path) -> None:
    block = bytes(range(256)) * 4096
    with file.open("wb") as opened:
        while opened.tell() < _BYTES:
            opened.write(block[: _BYTES - opened.tell()])


def _running_pod(yard: BenchYard, kubectl: Sequence[str]) -> str:
    wait = [*kubectl, "wait", "pod", "-l", _PODS, "--for=jsonpath={.status.phase}=Running", "--timeout=60s"]
    subprocess.run(wait, env=yard.environ, check=True, stdout=subprocess.DEVNULL)
    found = subprocess.run(
        [*kubectl, "get", "pods", "-l", _PODS, "-o", "json"],
        env=yard.environ,
        check=True,
        capture_output=True,
    )
    return str(json.loads(found.stdout)["items"][0]["metadata"]["name"])


def _time_s(yard: BenchYard, command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(
        command, env=yard.environ, cwd=yard.home, check=True, stdin=subprocess.DEVNULL, capture_output=True
    )
    return time.perf_counter() - began
