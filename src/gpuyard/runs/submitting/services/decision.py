"""A service of which all is decided that depends on where it goes."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Mapping

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.client.server_version import cluster_version
from gpuyard.kube.objects import NODES, PODS, Manifest
from gpuyard.runs.notices import Notice, Notify
from gpuyard.runs.submitting.services.scalers import ScalerChoice, choose_scaler, find_scalers
from gpuyard.runs.target import Target
from gpuyard.scheduling.decide import place_copies
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun, ResolvedService, Scaler
from gpuyard.workloads.serving.objects import LEAVE_S, YARD_LEAVE_S
from gpuyard.workloads.spec.service.values import Measure, ServiceSpec

#: Where KEDA finds Prometheus, unless it is found: an address as the cluster reaches it.
ENV_PROMETHEUS = "GPUYARD_PROMETHEUS"
#: From this Kubernetes on a container may sleep before it ends, without a program of the image's.
_SLEEPS_FROM = (1, 30)


def with_prometheus(environ: Mapping[str, str], url: str | None) -> dict[str, str]:
    """The environment with the address of an option.

    Raises:
        UsageError: it is none.
    """
    found = url or environ.get(ENV_PROMETHEUS, "")
    if found and not re.fullmatch(r"https?://[^\s/]+(?:/\S*)?", found):
        raise errors.UsageError(
            f"{found!r} is no address of Prometheus",
            remedy="write it as the cluster reaches it, such as http://prometheus.monitoring.svc:9090",
        )
    return {**environ, ENV_PROMETHEUS: found} if url else dict(environ)


async def decide_service(
    target: Target, run: ResolvedRun, notify: Notify, environ: Mapping[str, str], *, running: int = 0
) -> ResolvedRun:
    """The service with how it is updated and what scales it.

    Args:
        target: where it goes.
        run: a service, kept to the nodes that will do.
        notify: hears what was found out.
        environ: the caller's; see ENV_PROMETHEUS.
        running: how many of its replicas are there already, and have their place.

    Raises:
        UsageError: nothing there can scale it.
    """
    service = run.spec.service
    assert service is not None
    leave_s, choice, surge = await asyncio.gather(
        _leave_s(target), _choice(target, service, environ), _surge(target, run, service, running)
    )
    if choice and choice.said:
        notify(Notice(choice.said))
    if surge == 0 and service.max_surge is None and service.max_unavailable is None:
        notify(Notice("updates will replace one replica after another: no node has room for one more now"))
    max_surge, max_unavailable = update_bounds(service, surge)
    decided = ResolvedService(
        leave_s=leave_s,
        max_surge=max_surge,
        max_unavailable=max_unavailable,
        scaler=choice.scaler if choice else None,
        metric=choice.metric if choice else "",
        prometheus=choice.prometheus if choice else "",
    )
    return dataclasses.replace(run, service=decided)


def update_bounds(service: ServiceSpec, surge: int) -> tuple[int | str, int | str]:
    """How many replicas more, and how many fewer, there may be during an update.

    Args:
        service: its user's own keys win.
        surge: how many more have room.
    """
    more, fewer = service.max_surge, service.max_unavailable
    if more is None:
        # Where none may be missing, nothing changes without one more, and so it waits for room.
        more = 1 if surge or fewer in (0, "0%") else 0
    if fewer is None:
        fewer = int(more in (0, "0%"))
    return more, fewer


async def _leave_s(target: Target) -> int:
    if target.is_yard:
        return YARD_LEAVE_S
    return LEAVE_S if await cluster_version(target.api) >= _SLEEPS_FROM else 0


async def _choice(target: Target, service: ServiceSpec, environ: Mapping[str, str]) -> ScalerChoice | None:
    if service.target is None:
        return None
    if not target.is_yard:
        return choose_scaler(service, await find_scalers(target, environ.get(ENV_PROMETHEUS, "")))
    if service.target.measure is Measure.QUERY:
        raise errors.UsageError(
            "a yard asks no Prometheus, so it can't scale a service by a query",
            remedy=advice("it counts requests itself: --target-inflight 4, --target-rps or --target-p99"),
        )
    return ScalerChoice(Scaler.YARD)


async def _surge(target: Target, run: ResolvedRun, service: ServiceSpec, running: int) -> int:
    """1 where there is room for a replica more than it has, or would have at its start."""
    return await room_for(target, render(run)[-1], (0 if running else service.least) + 1)


async def room_for(target: Target, template: Manifest, count: int) -> int:
    """1 where so many pods of this Deployment or ReplicaSet have room now, or that can't be seen; else 0."""
    nodes = await target.list_visible(NODES)
    pods = await target.list_visible(PODS) if nodes else None
    if not nodes or pods is None:
        return 1
    request = PodRequest.of_template(template)
    return int(len(place_copies(request, count, Snapshot.of(nodes, pods))) == count)
