"""Stopping, removing and replacing runs, as `stop`, `rm`, `run --replace` and `down` need it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime
from functools import partial

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.client.api import Propagation
from gpuyard.kube.objects import JOBS, PODS, Manifest, controller_of, uid_of
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.notices import Late, Notify, ignore
from gpuyard.runs.run import Run, find_run, has_ended, is_alive
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import is_stopped
from gpuyard.workloads.stopping import StopOptions, stop_patches

_POLL_S = 0.1
_USUAL = StopOptions()


async def stop_run(
    target: Target, name: str, options: StopOptions = _USUAL, shell_exit: int | None = None
) -> bool:
    """Asks for the run to end; False when it has ended already.

    The Job comes first, so that its controller doesn't start another attempt. For `shell_exit` see
    `stop_patches`.

    Raises:
        UsageError: there is no such run, or a cluster is asked for what only a yard's kubelet does.
        Timeout, Forbidden: it waits in a queue of Kueue, and can't be taken out of it.
    """
    if options != _USUAL and not target.is_yard:
        raise errors.UsageError(
            "a cluster's nodes end processes by SIGTERM, and after the pod's own grace period by SIGKILL",
            remedy=advice("leave --grace and --signal out; `gpuyard run --grace 5m` gives a run more time"),
        )
    run = await find_run(target, name, ask_nodes=False)
    if has_ended(run):
        return False
    patches = stop_patches(run.job, run.pods, datetime.now(UTC), options, shell_exit)
    if patches.job:
        await target.api.patch(JOBS, run.job["metadata"]["name"], patches.job, target.namespace)
    if patches.job and not patches.pods and not target.is_yard:
        # Nothing of it runs: it may wait in a queue, which would let it in later.
        from gpuyard.runs.kueue import leave_queue

        await leave_queue(target, run)
    for pod_name, patch in patches.pods.items():
        with contextlib.suppress(errors.NotFound):
            await target.api.patch(PODS, pod_name, patch, target.namespace)
    return True


async def wait_until_ended(target: Target, name: str, notify: Notify = ignore) -> Run:
    """Returns the run once none of its pods is alive.

    Args:
        target: where it is.
        name: of a run that was asked to end.
        notify: told once what it waits for, unless that ends within a second.
    """
    late = Late(notify)
    while True:
        run = await find_run(target, name, ask_nodes=False)
        if has_ended(run):
            return run
        if is_stopped(run.job) and any(map(_goes_on, run.pods)):
            # Its node was drained meanwhile, say, and its Job's controller has made another.
            await stop_run(target, name)
        late.say(partial(_what_it_waits_for, run))
        await asyncio.sleep(_POLL_S)


def _goes_on(pod: Manifest) -> bool:
    """Whether nobody has asked the pod to end."""
    is_asked = pod["metadata"].get("deletionTimestamp") or pod["spec"].get("activeDeadlineSeconds") == 1
    return is_alive(pod) and not is_asked


def _what_it_waits_for(run: Run) -> str:
    alive = [pod for pod in run.pods if is_alive(pod)]
    if not alive:
        return f"Waiting for {run.name}: its processes are over, and its Job is about to say so or to go"
    grace_s = max(map(StopOptions.grace_of, alive))
    signal = StopOptions.of(alive[0]).signal or "SIGTERM"
    pods = ", ".join(pod["metadata"]["name"] for pod in alive)
    return (
        f"Waiting for {run.name}: its processes have got {signal}, and get SIGKILL {grace_s} s after it "
        f"(pod{'s' if len(alive) > 1 else ''} {pods})"
    )


async def remove_run(target: Target, run: Run, notify: Notify = ignore) -> None:
    """Deletes the Job and, in the background, its pods; returns when nothing of it is left.

    A process that is alive gets SIGTERM and its grace period: until it has ended it holds its GPUs.

    Args:
        target: where it is.
        run: as it is now.
        notify: told once what it waits for, unless that ends within a second.
    """
    late = Late(notify)
    name, uid = run.job["metadata"]["name"], uid_of(run.job)
    with contextlib.suppress(errors.NotFound, errors.Conflict):
        await target.api.delete(JOBS, name, target.namespace, propagation=Propagation.BACKGROUND, uid=uid)
    while True:
        pods = await _pods_left(target, run.name, uid)
        if not pods and not await _is_there(target, name, uid):
            return
        late.say(partial(_what_it_waits_for, dataclasses.replace(run, pods=pods)))
        await asyncio.sleep(_POLL_S)


async def _is_there(target: Target, name: str, uid: str) -> bool:
    try:
        return uid_of(await target.api.get(JOBS, name, target.namespace)) == uid
    except errors.NotFound:
        return False


async def _pods_left(target: Target, run_name: str, job_uid: str) -> list[Manifest]:
    pods = await target.api.list(PODS, target.namespace, label_selector=f"{LABEL_RUN}={run_name}")
    return [pod for pod in pods.items if (controller_of(pod) or {}).get("uid") == job_uid]
