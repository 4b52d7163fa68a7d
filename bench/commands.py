"""CPU time of whole commands beside an empty click group, in turns under one and the same load."""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
from pathlib import Path

import gpuyard
from bench.help import EMPTY
from bench.row import Row
from bench.yard import GPUYARD, BenchYard, running_yard

_TIMES = 15
#: Command: how many times the peer's CPU time it may take.
_COMMANDS = {
    ("ps",): 2.0,
    ("logs", "one"): 2.0,
    ("show", "one"): 2.0,
    ("stop", "one"): 2.0,
    ("run", "-d", "--", "/bin/true"): 3.0,
    ("explain", "one"): 4.0,
    ("doctor",): 4.0,
}


def measure() -> list[Row]:
    """The medians of each command and its peer."""
    # As installed: a checkout under PYTHONDONTWRITEBYTECODE would compile its changed files at each call.
    compileall.compile_dir(Path(gpuyard.__file__).parent, quiet=2)
    with running_yard() as yard:
        yard.run("run", "-n", "one", "--", "echo", "hi")
        empty = yard.home / "empty.py"
        empty.write_text(EMPTY)
        return [_row(yard, empty, command, most) for command, most in _COMMANDS.items()]


def _row(yard: BenchYard, empty: Path, command: tuple[str, ...], most: float) -> Row:
    ours, peer = [], []
    for _ in range(_TIMES):
        peer.append(cpu_s([sys.executable, str(empty), "--help"], yard))
        ours.append(cpu_s([str(GPUYARD), *command], yard))
    beside = statistics.median(peer)
    name = f"{' '.join(command[:2])}, CPU"
    return Row(name, statistics.median(ours), "s", most * beside, "an empty click group, now", beside)


def cpu_s(command: list[str], yard: BenchYard) -> float:
    """User and system time of a process and its children, in seconds."""
    with subprocess.Popen(
        command, env=yard.environ, cwd=yard.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime
