"""From Enter to the first line of output of the smallest script, with the yard running."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

from bench.row import Row
from bench.yard import GPUYARD, BenchYard, running_yard

_TIMES = 11


def measure() -> list[Row]:
    """The median."""
    with running_yard() as yard:
        script = yard.home / "one.py"
        script.write_text("print(1)\n")
        took = [_time_first_line(yard, script) for _ in range(_TIMES)]
    return [Row("run, Enter to first line", statistics.median(took), "s", 0.7, "kubectl create and logs", 0)]


def _time_first_line(yard: BenchYard, script: Path) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        [str(GPUYARD), "run", str(script)],
        env=yard.environ,
        cwd=yard.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - began
        process.stdout.read()
    assert line == b"1\n", f"the first line was {line!r}"
    return took
