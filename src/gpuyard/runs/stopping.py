"""Stopping, removing and replacing runs, as `stop`, `rm`, `run --replace` and `down` need it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from gpuyard import errors
from gpuyard.client.api import Propagation
from gpuyard.kube.objects import JOBS, PODS, controller_of, uid_of
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.run import Run, find_run, has_ended
from gpuyard.runs.target import Target
from gpuyard.workloads.stopping import stop_patches

_POLL_S = 0.1


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
    """Deletes the Job and, in the background, its pods; returns when nothing of it is left.

    A process that is alive gets SIGTERM and its grace period: until it has ended it holds its GPUs.
    """
    name, uid = run.job["metadata"]["name"], uid_of(run.job)
    with contextlib.suppress(errors.NotFound, errors.Conflict):
        await target.api.delete(JOBS, name, target.namespace, propagation=Propagation.BACKGROUND, uid=uid)
    while await _is_there(target, name, uid) or await _pods_left(target, run.name, uid):
        await asyncio.sleep(_POLL_S)


async def _is_there(target: Target, name: str, uid: str) -> bool:
    try:
        return uid_of(await target.api.get(JOBS, name, target.namespace)) == uid
    except errors.NotFound:
        return False


async def _pods_left(target: Target, run_name: str, job_uid: str) -> bool:
    pods = await target.api.list(PODS, target.namespace, label_selector=f"{LABEL_RUN}={run_name}")
    return any((controller_of(pod) or {}).get("uid") == job_uid for pod in pods.items)
