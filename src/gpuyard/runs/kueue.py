"""Kueue's Workload of a run: what Kueue let in, or keeps waiting, of its Job.

Kueue, not the Job's `suspend`, decides whether a Job with its label runs: it lifts the suspension once there
is room. `spec.active: false` of the Workload tells it not to.
Source: kueue `apis/kueue/v1beta2/workload_types.go`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gpuyard import errors
from gpuyard.kube.objects import LOCAL_QUEUES, WORKLOADS, Manifest, Resource, key_of, labels_of, uid_of
from gpuyard.kube.wellknown import LABEL_KUEUE_JOB_UID, LABEL_KUEUE_QUEUE
from gpuyard.runs.run import Run
from gpuyard.runs.target import Target

#: The LocalQueue that every Job of its namespace joins.
_DEFAULT_QUEUE = "default"
_POLL_S = 0.1
_TRIES = 50


async def joins_queue(target: Target) -> bool:
    """Whether Kueue takes the target's runs into a queue; no where the user may not see its queues."""
    for resource in LOCAL_QUEUES:
        try:
            await target.api.get(resource, _DEFAULT_QUEUE, target.namespace)
        except errors.NotFound:
            continue
        except errors.Forbidden:
            return False
        return True
    return False


async def leave_queue(target: Target, run: Run) -> None:
    """Has Kueue never let the run in, if it waits in one of its queues.

    Raises:
        Timeout: Kueue has made no Workload of it, and may do so later.
        Forbidden: the user may not list or patch Workloads.
    """
    queue = labels_of(run.job).get(LABEL_KUEUE_QUEUE)
    if not queue:
        return
    # Kueue makes the Workload a moment after the Job.
    for _ in range(_TRIES):
        resource, found = await _workloads(target, run.job)
        if resource is None:
            return
        for workload in found:
            name = key_of(workload).name
            await target.api.patch(resource, name, {"spec": {"active": False}}, target.namespace)
        if found:
            return
        await asyncio.sleep(_POLL_S)
    raise errors.Timeout(
        f"{run.name} is suspended, and can't be taken out of Kueue's queue {queue}: it has no Workload there",
        remedy=f"Kueue may let it in later: see that it runs, or remove the run: "
        f"`{target.command('rm', run.name)}`",
    )


async def _workloads(target: Target, job: Manifest) -> tuple[Resource | None, Sequence[Manifest]]:
    """Those that Kueue made for a Job, and as what they are served; nothing where Kueue isn't installed."""
    selector = f"{LABEL_KUEUE_JOB_UID}={uid_of(job)}"
    for resource in WORKLOADS:
        try:
            return resource, (
                await target.api.list(resource, target.namespace, label_selector=selector)
            ).items
        except errors.NotFound:
            continue
    return None, ()
