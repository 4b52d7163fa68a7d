"""`gpuyard up` on a folder where there is nothing: certificates, database, API, node and GPUs."""

from __future__ import annotations

import statistics
import time

from bench.row import Row
from bench.yard import empty_yard

_TIMES = 7


def measure() -> list[Row]:
    """The median time until the command is back, which is when API, node and GPUs are ready."""
    took = []
    for _ in range(_TIMES):
        with empty_yard() as yard:
            began = time.perf_counter()
            yard.run("up", "--simulate", "H100:8")
            took.append(time.perf_counter() - began)
            assert yard.status()["gpus"]["allocatable"] == 8
    return [Row("up, from nothing to ready", statistics.median(took), "s", 1.5, "real Kubernetes", 8.0)]
