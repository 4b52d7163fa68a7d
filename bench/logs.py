"""What it costs that a container's output goes through a pipe and a copier, and not straight into a file."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from bench.row import Row
from gpuyard.local.runtime.log_copier import start_copier, wait_until_copied

_LINES = 2_000_000
_ROUNDS = 5
_STARTS = 40


def measure() -> list[Row]:
    """Throughput of a fast writer, and the time until a program's output can begin; medians, in turns."""
    with tempfile.TemporaryDirectory(prefix="gpuyard-bench-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Row]:
    copied: list[float] = []
    direct: list[float] = []
    for number in range(_ROUNDS):
        direct.append(await _write(folder / f"file-{number}", through_copier=False))
        copied.append(await _write(folder / f"log-{number}", through_copier=True))
    size_mb = sum(len(str(number)) + 1 for number in range(1, _LINES + 1)) / 1e6
    rate, peer = size_mb / statistics.median(copied), size_mb / statistics.median(direct)
    started = [_start(folder / f"start-{number}") for number in range(_STARTS)]
    return [
        Row("log of a fast writer", rate, "MB/s", 20, "straight into a file", peer, higher_is_better=True),
        Row("a log's copier is there", statistics.median(started) * 1000, "ms", 10, "none", 0),
    ]


async def _write(path: Path, *, through_copier: bool) -> float:
    began = time.perf_counter()
    if through_copier:
        output = start_copier(path)
    else:
        output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    writer = await asyncio.create_subprocess_exec("seq", str(_LINES), stdout=output)
    os.close(output)
    await writer.wait()
    await wait_until_copied(path)
    took = time.perf_counter() - began
    path.unlink()
    return took


def _start(path: Path) -> float:
    began = time.perf_counter()
    output = start_copier(path)
    took = time.perf_counter() - began
    os.close(output)
    return took
