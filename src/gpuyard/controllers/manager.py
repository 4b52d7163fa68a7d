"""Composes the controllers that a cluster's controller manager runs, over one set of informers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gpuyard.client.api import KubeApi
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import Supervisor
from gpuyard.controllers.autoscaler.controller import LOOK_S, AutoscalerController
from gpuyard.controllers.autoscaler.load_reader import LoadReader
from gpuyard.controllers.deployment.controller import DeploymentController
from gpuyard.controllers.disruption.controller import DisruptionController
from gpuyard.controllers.endpoint_slice.controller import EndpointSliceController
from gpuyard.controllers.event_expiry import EventExpiry
from gpuyard.controllers.garbage import GarbageCollector
from gpuyard.controllers.job.controller import JobController
from gpuyard.controllers.namespaces import NamespaceController
from gpuyard.controllers.node_lifecycle import NodeLifecycle
from gpuyard.controllers.pod_collector import PodCollector
from gpuyard.controllers.replica_set.controller import ReplicaSetController
from gpuyard.controllers.watched_time import WatchedTime
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.objects import (
    AUTOSCALERS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    ENDPOINT_SLICES,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)

#: Kinds whose informers `ControllerManager` needs.
FOLLOWED = (
    AUTOSCALERS, DEPLOYMENTS, DISRUPTION_BUDGETS, ENDPOINT_SLICES, JOBS, LEASES, NAMESPACES, NODES, PODS,
    REPLICA_SETS, SERVICE_ACCOUNTS, SERVICES,
)  # fmt: skip


class _Controller(Protocol):
    async def run(self) -> None: ...


class ControllerManager:
    """All controllers but the scheduler.

    Make it before the informers run, since it registers handlers; then `run` it beside them.

    Args:
        informers: at least those in `FOLLOWED`, run by the caller; the garbage collector follows
            owner references over all of them.
        resources: everything that the API serves, for emptying a namespace.
        supervisor: is told of what the controllers trip over.
        job_backoff_s: delay before a Job's pod is made again after one failure (10 on a cluster).
        node_grace_s: how long a node may be silent before it counts as unreachable.
        watched: the time that counts as silence; it is run here.
        is_gone: whether a node that is missing is known not to come back.
        loads: measures what autoscalers decide by; without one nobody follows them.
        autoscaler_look_s: between two looks at one autoscaler.
        seconds: a steady clock that goes on in a suspend.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        informers: Mapping[Resource, Informer],
        resources: Sequence[Resource],
        supervisor: Supervisor,
        *,
        job_backoff_s: float = 10.0,
        node_grace_s: float = 40.0,
        watched: WatchedTime | None = None,
        is_gone: Callable[[str], bool] = lambda node: False,
        loads: LoadReader | None = None,
        autoscaler_look_s: float = LOOK_S,
        seconds: Callable[[], float] = seconds_since_boot,
    ) -> None:
        nodes, pods = informers[NODES], informers[PODS]
        self._supervisor = supervisor
        watched = watched or WatchedTime()
        jobs = JobController(api, clock, informers[JOBS], pods, backoff_s=job_backoff_s, seconds=seconds)
        replica_sets = ReplicaSetController(api, clock, informers[REPLICA_SETS], pods, seconds=seconds)
        deployments = DeploymentController(api, clock, informers[DEPLOYMENTS], informers[REPLICA_SETS], pods)
        budgets = DisruptionController(
            api, clock, informers[DISRUPTION_BUDGETS], pods, informers[REPLICA_SETS], informers[DEPLOYMENTS]
        )
        for timed in (jobs, replica_sets, deployments, budgets):
            watched.on_pause(timed.wake)
        self._parts: dict[str, _Controller] = {
            "jobs": jobs,
            "replica-sets": replica_sets,
            "deployments": deployments,
            "disruption-budgets": budgets,
            "endpoint-slices": EndpointSliceController(
                api, informers[SERVICES], pods, informers[ENDPOINT_SLICES]
            ),
            "garbage": GarbageCollector(api, informers, supervisor),
            "namespaces": NamespaceController(
                api, clock, informers[NAMESPACES], informers[SERVICE_ACCOUNTS], resources
            ),
            "node-lifecycle": NodeLifecycle(
                api, clock, watched, nodes, informers[LEASES], grace_s=node_grace_s
            ),
            "pod-collector": PodCollector(api, clock, watched, nodes, pods, is_gone=is_gone),
            "watched-time": watched,
            "event-expiry": EventExpiry(api, clock, supervisor, seconds=seconds),
        }

        if loads is not None:
            autoscalers = AutoscalerController(
                api, clock, informers, loads, seconds=seconds, look_s=autoscaler_look_s
            )
            watched.on_pause(autoscalers.wake)
            self._parts["autoscalers"] = autoscalers

    async def run(self) -> None:
        """Works until cancelled. One that fails is reported and run again; the others go on."""
        async with asyncio.TaskGroup() as group:
            for name, part in self._parts.items():
                group.create_task(self._supervisor.keep(name, part.run), name=f"controller-{name}")
