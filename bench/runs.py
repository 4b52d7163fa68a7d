"""A hundred submits one after another, until all have ended."""

from __future__ import annotations

import json
import time

from bench.row import Row
from bench.yard import running_yard

_RUNS = 100
_POLL_S = 0.2


def measure() -> list[Row]:
    """Wall time on a quiet machine, and until the last submit came back."""
    with running_yard() as yard:
        began = time.perf_counter()
        for _ in range(_RUNS):
            yard.run("run", "-d", "--", "/bin/true")
        submitted_s = time.perf_counter() - began
        while any(run["finished_at"] is None for run in json.loads(yard.run("ps", "-o", "json"))):
            time.sleep(_POLL_S)
        ended_s = time.perf_counter() - began
    return [
        Row(f"{_RUNS} × run -d, all submitted", submitted_s, "s", 20, "", 0),
        Row(f"{_RUNS} × run -d, all ended", ended_s, "s", 20, "", 0),
    ]
