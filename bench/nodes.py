"""Runs of several pods: how long their processes take to meet, and what following all of them costs."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import time
from pathlib import Path

from bench.row import Row, Unavailable
from bench.yard import GPUYARD, BenchYard, running_yard
from gpuyard.local.kubelet.ports import free_port

_PYTHON = "/usr/bin/python3"
#: Debian's torch 1.13 on Python 3.11 starts its processes only so.
_ENV = {"PET_REDIRECTS": "1", "PET_TEE": "1", "OMP_NUM_THREADS": "1"}
_TIMES = 3
_MEET = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
print("met", int(total), flush=True)
dist.barrier()
"""
_PODS, _LINES_A_SECOND, _SECONDS = 16, 5000, 5
_PRINT = f"""
import os, sys, time
began, rank = time.monotonic(), os.environ["RANK"]
for step in range({_SECONDS * 50}):
    first = step * {_LINES_A_SECOND // 50}
    sys.stdout.write("".join(f"{{rank}} {{n}}\\n" for n in range(first, first + {_LINES_A_SECOND // 50})))
    sys.stdout.flush()
    time.sleep(max(0, began + (step + 1) / 50 - time.monotonic()))
"""


def measure() -> list[Row]:
    """By turns where there is a peer."""
    if subprocess.run([_PYTHON, "-c", "import torch"], capture_output=True).returncode:
        raise Unavailable(f"{_PYTHON} has no torch")
    with running_yard() as yard:
        (yard.home / "meet.py").write_text(_MEET)
        (yard.home / "print.py").write_text(_PRINT)
        pairs = [(_meet_on_the_yard(yard), _meet_by_hand(yard.home)) for _ in range(_TIMES)]
        here, by_hand = (sorted(column)[_TIMES // 2] for column in zip(*pairs, strict=True))
        cores, lost = _follow(yard)
    return [
        Row("2 pods × 2 processes have met", here, "s", 1.5 * by_hand, "two torchruns by hand", by_hand),
        Row("16 pods × 5,000 lines/s, logs -f", cores, "core", 1.0, "", 0),
        Row("… lines lost or out of order", lost, "", 0, "", 0),
    ]


def _meet_on_the_yard(yard: BenchYard) -> float:
    options = [f"--env={name}={value}" for name, value in _ENV.items()]
    command = [str(GPUYARD), "run", "meet.py", "--nodes=2", "--gpus=2", f"--python={_PYTHON}", *options]
    return _until_met([command], yard.environ, [{}], yard.home)


def _meet_by_hand(folder: Path) -> float:
    port = str(free_port())
    command = [_PYTHON, "-m", "torch.distributed.run", "meet.py"]
    wiring = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "2", "PET_MASTER_ADDR": "127.0.0.1"}
    ranks = [{**_ENV, **wiring, "PET_MASTER_PORT": port, "PET_NODE_RANK": rank} for rank in "01"]
    return _until_met([command, command], dict(os.environ), ranks, folder)


def _until_met(
    commands: list[list[str]], environ: dict[str, str], more: list[dict[str, str]], folder: Path
) -> float:
    """Seconds from the start of all commands until one of them prints that all four have met."""
    began = time.perf_counter()
    processes = [
        subprocess.Popen(
            command, env={**environ, **own}, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for command, own in zip(commands, more, strict=True)
    ]
    first = processes[0].stdout
    assert first is not None
    took = next((time.perf_counter() - began for line in first if b"met 4" in line), None)
    for process in processes:
        process.communicate()
    assert took is not None, "they didn't meet"
    return took


def _follow(yard: BenchYard) -> tuple[float, int]:
    """How many cores the follower used while the pods printed, and how many lines weren't as they should."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = yard.run("run", str(yard.home / "print.py"), f"--nodes={_PODS}")
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    due, wrong = dict.fromkeys(range(_PODS), 0), 0
    for line in out.splitlines():
        found = re.fullmatch(r"\[(\d+)\] (\d+) (\d+)", line)
        if found and found[1] == found[2] and int(found[3]) == due[int(found[1])]:
            due[int(found[1])] += 1
        else:
            wrong += 1
    missing = sum(_LINES_A_SECOND * _SECONDS - count for count in due.values())
    return used_s / took, wrong + missing
