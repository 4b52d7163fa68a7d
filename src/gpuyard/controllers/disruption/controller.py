"""The disruption controller: keeps the status of each PodDisruptionBudget as its pods are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.disruption.budget import budget_status, expectation, guards, next_look_s, scale_of
from gpuyard.kube.objects import (
    DISRUPTION_BUDGETS,
    Manifest,
    ObjectKey,
    key_of,
    with_kind,
)

_WORKERS = 2


class DisruptionController:
    """Says how many pods of each budget may be evicted now.

    Every budget is handled by one worker at a time. It keeps nothing: evictions write the status, too, and
    a write on a late copy is a Conflict.

    Args:
        budgets, pods, replica_sets, deployments: informers that someone else runs.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        budgets: Informer,
        pods: Informer,
        replica_sets: Informer,
        deployments: Informer,
    ) -> None:
        self._api = api
        self._clock = clock
        self._budgets = budgets
        self._pods = pods
        self._replica_sets = replica_sets
        self._deployments = deployments
        self._events = EventRecorder(api, "controllermanager", clock)
        self._queue: WorkQueue[ObjectKey] = WorkQueue(
            "disruption", self._sync, budgets.supervisor, budgets.reference
        )
        budgets.add_handler(self._on_budget)
        pods.add_handler(self._on_pod)
        for owners in (replica_sets, deployments):
            owners.add_handler(self._on_owner)

    def wake(self) -> None:
        """This process stood still: looks at all budgets, whose timers are late by that."""
        for key in self._budgets.objects:
            self._queue.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        for informer in (self._budgets, self._pods, self._replica_sets, self._deployments):
            await informer.synced()
        await self._queue.run(_WORKERS)

    def _on_budget(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        changed = [pod for pod in (old, new) if pod is not None]
        for key, budget in self._budgets.objects.items():
            if key.namespace == key_of(changed[0]).namespace and any(guards(budget, pod) for pod in changed):
                self._queue.add(key)

    def _on_owner(self, old: Manifest | None, new: Manifest | None) -> None:
        """How many pods there should be may be another number now."""
        if old is not None and new is not None and old["spec"].get("replicas") == new["spec"].get("replicas"):
            return
        namespace = key_of(new or old or {}).namespace
        for key in self._budgets.objects:
            if key.namespace == namespace:
                self._queue.add(key)

    async def _sync(self, key: ObjectKey) -> float | None:
        budget = self._budgets.objects.get(key)
        if budget is None or budget["metadata"].get("deletionTimestamp"):
            return None
        pods = [
            pod
            for other, pod in self._pods.objects.items()
            if other.namespace == key.namespace and guards(budget, pod)
        ]
        scales = [scale_of(pod, self._replica_sets.objects, self._deployments.objects) for pod in pods]
        now = self._clock()
        wanted = expectation(budget, pods, scales)
        status = budget_status(budget, pods, wanted, now)
        if status != (budget.get("status") or {}):
            named = with_kind(DISRUPTION_BUDGETS, budget)
            await self._api.update(DISRUPTION_BUDGETS, {**named, "status": status}, subresource="status")
            if wanted.failure:
                text = f"Failed to calculate the number of expected pods: {wanted.failure}"
                await self._events.record(named, "Warning", "CalculateExpectedPodCountFailed", text)
        return next_look_s(status, now)
