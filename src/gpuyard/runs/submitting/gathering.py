"""What sees to it that the pods of a run start together, found out before it is rendered.

Kueue lets a whole Job in. A scheduler that knows PodGroups starts all pods of one or none. Everywhere the
launchers of the pods wait for one another: they have to meet in any case, and elsewhere nothing else does it.
"""

from __future__ import annotations

import asyncio
import dataclasses

from gpuyard.kube.objects import POD_GROUPS
from gpuyard.runs.notices import Notice, Notify
from gpuyard.runs.target import Target
from gpuyard.workloads.gang import is_gang, least_nodes
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.time_spans import format_span


async def with_gathering(target: Target, run: ResolvedRun, notify: Notify) -> ResolvedRun:
    """The run with what the cluster has for it; of several pods it is told.

    Args:
        target: where it goes. A yard's scheduler does by itself what it can.
        run: as it is to be submitted.
        notify: hears what gathers its pods.
    """
    if target.is_yard:
        return run
    from gpuyard.runs.kueue import joins_queue

    is_queued, serves_groups = await asyncio.gather(joins_queue(target), _serves_groups(target, run))
    if not is_gang(run.spec):
        return dataclasses.replace(run, is_queued=is_queued)
    is_allowed = serves_groups and not is_queued and await _may_make_groups(target)
    told = _queued(run) if is_queued else _scheduled(run) if is_allowed else _by_launcher(run)
    if serves_groups and not is_queued and not is_allowed:
        told += ": its scheduler starts all or none only for who may create PodGroups (gpuyard-submitter)"
    notify(Notice(told))
    return dataclasses.replace(run, is_queued=is_queued, has_pod_group=is_allowed)


async def _serves_groups(target: Target, run: ResolvedRun) -> bool:
    if not is_gang(run.spec):
        return False
    from gpuyard.client.server_version import serves

    return await serves(target.api, POD_GROUPS)


async def _may_make_groups(target: Target) -> bool:
    from gpuyard.client.access_review import may

    return await may(target.api, "create", POD_GROUPS.group, POD_GROUPS.plural, target.namespace)


def _queued(run: ResolvedRun) -> str:
    return f"Kueue lets all {run.spec.nodes} pods in, or none"


def _scheduled(run: ResolvedRun) -> str:
    least, most = least_nodes(run.spec), run.spec.nodes
    if least < most:
        return f"the scheduler starts {least} of the {most} pods or none, and the others when they fit"
    return f"the scheduler starts all {most} pods or none"


def _by_launcher(run: ResolvedRun) -> str:
    return f"the pods wait for one another, {format_span(run.spec.start_within)} at most"
