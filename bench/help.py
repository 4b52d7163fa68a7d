"""`gpuyard --help` beside a program that has nothing but an empty click group."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.row import Row
from bench.yard import GPUYARD

#: Such a program.
EMPTY = """\
import click

@click.group()
def cli():
    pass

cli()
"""
_TIMES = 31


def measure() -> list[Row]:
    """The ratio of the medians, the two taking turns under one and the same load."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY)
        programs: dict[Path, list[float]] = {GPUYARD: [], empty: []}
        for _ in range(_TIMES):
            for program, took in programs.items():
                took.append(_time_help(program))
    ours, peer = (statistics.median(took[1:]) for took in programs.values())
    return [Row("gpuyard --help", ours, "s", 1.3 * peer, "an empty click group, now", peer)]


def _time_help(program: Path) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, str(program), "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
