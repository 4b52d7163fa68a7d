"""A sweep of a hundred tasks that do nothing, twenty at a time, submitted as its user does it."""

from __future__ import annotations

import asyncio
import time

from bench.pods import until_succeeded
from bench.row import Row
from bench.yard import BenchYard, running_yard
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import JOBS
from gpuyard.local.paths import find_paths

_TASKS = 100
_AT_ONCE = 20


def measure() -> list[Row]:
    """Tasks a second, from the submit until the run's Job says that all of them succeeded."""
    with running_yard() as yard:
        took = asyncio.run(_run_sweep(yard))
    return [Row("sweep of /bin/true, with its submit", _TASKS / took, "/s", 20, "", 0, higher_is_better=True)]


async def _run_sweep(yard: BenchYard) -> float:
    async with RestApi(unix_socket=find_paths(yard.environ).api_socket) as api:
        version = (await api.list(JOBS, "default")).resource_version
        began = time.perf_counter()
        # fmt: off
        submit = asyncio.create_task(asyncio.to_thread(
            yard.run, "run", "-n", "bench", "--sweep", f"n=1..{_TASKS}", "--at-once", str(_AT_ONCE), "-d",
            "--", "/bin/true",
        ), name="submit")
        # fmt: on
        await until_succeeded(api, version, _TASKS)
        took = time.perf_counter() - began
        await submit
        return took
