"""Stopping, removing and replacing runs, as `stop`, `rm`, `run --replace` and `down` need it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from gpuyard import errors
from gpuyard.cli.runs import Run, find_run
from gpuyard.cli.target import Target
from gpuyard.client.api import Propagation
from gpuyard.kube.objects import JOBS, PODS
from gpuyard.workloads.stopping import stop_patches

_POLL_S = 0.1
_ENDED = frozenset({"succeeded", "failed", "stopped"})


def has_ended(run: Run) -> bool:
    """Whether nothing of the run is alive any more."""
    alive = any(pod.get("status", {}).get("phase") in (None, "Pending", "Running") for pod in run.pods)
    return run.state.state in _ENDED and not alive


async def stop_run(target: Target, name: str) -> bool:
    """Asks for the run to end; False when it has ended already.

    The Job comes first, so that its controller doesn't start another attempt.
    """
    run = await find_run(target, name)
    if has_ended(run):
        return False
    patches = stop_patches(run.job, run.pods, datetime.now(UTC))
    if patches.job:
        await target.api.patch(JOBS, run.job["metadata"]["name"], patches.job, target.namespace)
    for pod_name, patch in patches.pods.items():
        with contextlib.suppress(errors.NotFound):
            await target.api.patch(PODS, pod_name, patch, target.namespace)
    return True


async def wait_until_ended(target: Target, name: str) -> Run:
    """Returns the run once none of its pods is alive."""
    while True:
        run = await find_run(target, name)
        if has_ended(run):
            return run
        await asyncio.sleep(_POLL_S)


async def remove_run(target: Target, run: Run) -> None:
    """Deletes the Job and, in the background, its pods; returns when the name is free again."""
    name = run.job["metadata"]["name"]
    with contextlib.suppress(errors.NotFound):
        await target.api.delete(JOBS, name, target.namespace, propagation=Propagation.BACKGROUND)
        while True:
            await target.api.get(JOBS, name, target.namespace)
            await asyncio.sleep(_POLL_S)
