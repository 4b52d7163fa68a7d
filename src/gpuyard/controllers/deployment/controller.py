"""The Deployment controller: makes, sizes and forgets ReplicaSets, and writes how far it has come.

Source of its behaviour: kubernetes `pkg/controller/deployment`. `kubectl rollout undo`, `restart` and `pause`
write the Deployment, and are seen here as changes like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.adoption import adoption, change_owner, is_current, release, selects
from gpuyard.controllers.deployment.rollout import Rollout
from gpuyard.controllers.deployment.status import paused_status, seconds_to_deadline
from gpuyard.kube.objects import (
    DEPLOYMENTS,
    REPLICA_SETS,
    Manifest,
    ObjectKey,
    controller_of,
    key_of,
    labels_of,
    uid_of,
)
from gpuyard.kube.pods import is_terminal

_WORKERS = 8


class DeploymentController:
    """Carries out Deployments.

    Every Deployment is handled by one worker at a time; different ones run in parallel. It keeps nothing: all
    that it decides follows from the Deployment and its ReplicaSets, and a write on a late copy is a Conflict.

    Args:
        deployments, replica_sets, pods: informers that someone else runs.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        deployments: Informer,
        replica_sets: Informer,
        pods: Informer,
    ) -> None:
        self._api = api
        self._clock = clock
        self._deployments = deployments
        self._replica_sets = replica_sets
        self._pods = pods
        self._events = EventRecorder(api, "deployment-controller", clock)
        self._queue: WorkQueue[ObjectKey] = WorkQueue(
            "deployment", self._sync, deployments.supervisor, deployments.reference
        )
        deployments.add_handler(self._on_deployment)
        replica_sets.add_handler(self._on_replica_set)
        pods.add_handler(self._on_pod)

    def wake(self) -> None:
        """This process stood still: looks at all Deployments, whose timers are late by that."""
        for key in self._deployments.objects:
            self._queue.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        for informer in (self._deployments, self._replica_sets, self._pods):
            await informer.synced()
        await self._queue.run(_WORKERS)

    def _on_deployment(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))

    def _on_replica_set(self, old: Manifest | None, new: Manifest | None) -> None:
        for one in (old, new):
            if one is not None and (key := _owner_of(one)):
                self._queue.add(key)
        if new is None or controller_of(new) is not None:
            return
        if old is None or controller_of(old) is not None or labels_of(old) != labels_of(new):
            # Each finds out for itself whether it is for it.
            for key in self._deployments.objects:
                if key.namespace == key_of(new).namespace:
                    self._queue.add(key)

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        """A pod that is gone may be the last that a Recreate waits for."""
        owner = controller_of(old) if old is not None and new is None else None
        if old is None or owner is None or owner["kind"] != REPLICA_SETS.kind:
            return
        replica_set = self._replica_sets.objects.get(ObjectKey(key_of(old).namespace, owner["name"]))
        if replica_set is not None and (key := _owner_of(replica_set)):
            self._queue.add(key)

    async def _sync(self, key: ObjectKey) -> float | None:
        deployment = self._deployments.objects.get(key)
        if deployment is None:
            return None
        replica_sets = await self._claim(deployment)
        rollout = Rollout(self._api, self._clock, self._events, deployment, replica_sets)
        if deployment["metadata"].get("deletionTimestamp"):
            await rollout.write_counts()
            return None
        now = self._clock()
        if (status := paused_status(deployment, now)) != (deployment.get("status") or {}):
            # What follows is decided on the Deployment as it is then.
            await rollout.write_status(status)
            return None
        if deployment["spec"].get("paused"):
            await rollout.pause()
            return None
        written = await rollout.go_on(lambda: self._has_pods(rollout))
        left_s = seconds_to_deadline(deployment, written, now)
        return None if left_s is None else max(left_s, 0.0) + 1.0

    def _has_pods(self, rollout: Rollout) -> bool:
        """Whether a pod of an old ReplicaSet may still run."""
        old = {uid_of(one) for one in rollout.old}
        return any(
            not is_terminal(pod)
            for pod in self._pods.objects.values()
            if (controller_of(pod) or {}).get("uid") in old
        )

    async def _claim(self, owner: Manifest) -> list[Manifest]:
        """The ReplicaSets that are its own, after it has taken on what is, and let go of what isn't."""
        claimed: list[Manifest] = []
        orphans: list[Manifest] = []
        deleting = bool(owner["metadata"].get("deletionTimestamp"))
        for key, one in list(self._replica_sets.objects.items()):
            if key.namespace != key_of(owner).namespace:
                continue
            reference = controller_of(one)
            if reference is not None and reference.get("uid") != uid_of(owner):
                continue
            if selects(owner, one):
                if reference is not None:
                    claimed.append(one)
                elif not deleting and not one["metadata"].get("deletionTimestamp"):
                    orphans.append(one)
            elif reference is not None and not deleting:
                await change_owner(self._api, REPLICA_SETS, one, release(uid_of(owner), one))
        if orphans and await is_current(self._api, DEPLOYMENTS, owner):
            for one in orphans:
                taken = adoption(DEPLOYMENTS, owner, one)
                if (mine := await change_owner(self._api, REPLICA_SETS, one, taken)) is not None:
                    claimed.append(mine)
        return claimed


def _owner_of(replica_set: Manifest) -> ObjectKey | None:
    """The key of the Deployment that controls it, if one does."""
    owner = controller_of(replica_set)
    if owner is None or owner.get("kind") != DEPLOYMENTS.kind:
        return None
    return ObjectKey(key_of(replica_set).namespace, owner["name"])
