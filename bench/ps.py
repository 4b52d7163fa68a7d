"""`gpuyard ps` with a running yard."""

from __future__ import annotations

import statistics
import time

from bench.row import Row
from bench.yard import running_yard

_TIMES = 21


def measure() -> list[Row]:
    """The median, with one run to list."""
    with running_yard() as yard:
        yard.run("run", "--", "true")
        took = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            yard.run("ps")
            took.append(time.perf_counter() - began)
    return [Row("gpuyard ps", statistics.median(took), "s", 0.35, "kubectl get", 0.1)]
