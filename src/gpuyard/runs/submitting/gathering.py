"""What sees to it that the pods of a run start together, found out before it is rendered.

Kueue lets a whole Job in. A scheduler that knows PodGroups starts all pods of one or none. Everywhere the
launchers of the pods wait for one another: they have to meet in any case, and elsewhere nothing else does it.
"""

from __future__ import annotations

import asyncio
import dataclasses

from gpuyard.client.access_review import may
from gpuyard.client.server_version import serves
from gpuyard.kube.objects import POD_GROUPS
from gpuyard.runs.kueue import joins_queue
from gpuyard.runs.notices import Notice, Notify
from gpuyard.runs.target import Target
from gpuyard.workloads.gang import is_gang, least_nodes
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.time_spans import format_span


async def find_gathering(target: Target, run: ResolvedRun, notify: Notify) -> ResolvedRun:
    """The run with what the cluster has for it; of several pods it is told.

    Args:
        target: where it goes; no yard.
        run: as it is to be submitted.
        notify: hears what gathers its pods.
    """
    if not is_gang(run.spec):
        return dataclasses.replace(run, is_queued=await joins_queue(target))
    is_queued, knows_groups = await asyncio.gather(joins_queue(target), serves(target.api, POD_GROUPS))
    if is_queued:
        notify(Notice(f"Kueue lets all {run.spec.nodes} pods in, or none"))
        return dataclasses.replace(run, is_queued=True)
    if knows_groups and await may(
        target.api, "create", POD_GROUPS.group, POD_GROUPS.plural, target.namespace
    ):
        notify(Notice(_by_scheduler(run)))
        return dataclasses.replace(run, has_pod_group=True)
    told = f"the pods wait for one another, {format_span(run.spec.start_within)} at most"
    if knows_groups:
        told += ": the scheduler starts all or none only for who may create PodGroups (gpuyard-submitter)"
    notify(Notice(told))
    return run


def _by_scheduler(run: ResolvedRun) -> str:
    least, most = least_nodes(run.spec), run.spec.nodes
    if least < most:
        return f"the scheduler starts {least} of the {most} pods or none, and the others when they fit"
    return f"the scheduler starts all {most} pods or none"
