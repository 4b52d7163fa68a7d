"""The ReplicaSet controller: takes on, makes and deletes pods, and writes how many there are.

Source of its behaviour: kubernetes `pkg/controller/replicaset/replica_set.go`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.adoption import adoption, change_owner, is_current, release, selects
from gpuyard.controllers.owned_pods.bookkeeping import LOOK_UP_AFTER_S, Bookkeeping
from gpuyard.controllers.owned_pods.books import Books
from gpuyard.controllers.owned_pods.pod_control import PodControl
from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.controllers.replica_set.pods import pod_of
from gpuyard.controllers.replica_set.ranking import to_delete
from gpuyard.controllers.replica_set.status import next_look_s, replica_status
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.objects import (
    PODS,
    REPLICA_SETS,
    Manifest,
    ObjectKey,
    controller_of,
    key_of,
    labels_of,
    uid_of,
    with_kind,
)
from gpuyard.kube.pods import is_terminal

_WORKERS = 8
#: Pods that are made or deleted before the ReplicaSet is looked at again.
_MAX_BURST = 500


class ReplicaSetController:
    """Keeps as many pods as each ReplicaSet says.

    Every ReplicaSet is handled by one worker at a time; different ones run in parallel. It keeps nothing that
    it couldn't read from the API again: of what it did and hasn't been shown yet it makes notes, so that a
    late informer never makes it create or delete one pod too many.

    Args:
        replica_sets, pods: informers that someone else runs.
        seconds: a steady clock that goes on in a suspend; see `wake`.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        replica_sets: Informer,
        pods: Informer,
        *,
        rng: random.Random | None = None,
        seconds: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._api = api
        self._clock = clock
        self._seconds = seconds
        self._replica_sets = replica_sets
        self._pods = pods
        self._rng = rng or random.Random()  # noqa: S311 names only
        events = EventRecorder(api, "replicaset-controller", clock)
        self._control = PodControl(api, events, REPLICA_SETS)
        self._books = Books(replica_sets, pods, clock, seconds)
        #: Pods that nobody controls.
        self._orphans: set[ObjectKey] = set()
        self._queue: WorkQueue[ObjectKey] = WorkQueue(
            "replicaset", self._sync, replica_sets.supervisor, replica_sets.reference
        )
        replica_sets.add_handler(self._on_replica_set)
        pods.add_handler(self._on_pod)

    def wake(self) -> None:
        """This process stood still: looks at all ReplicaSets, whose timers are late by that."""
        for key in self._replica_sets.objects:
            self._queue.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._replica_sets.synced()
        await self._pods.synced()
        await self._queue.run(_WORKERS)

    def _on_replica_set(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))
        elif old is not None:
            self._books.note_gone(old)

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        for key in self._books.note_pod(old, new):
            self._queue.add(key)
        if old is not None:
            self._orphans.discard(key_of(old))
        if new is not None and controller_of(new) is None:
            self._orphans.add(key_of(new))
            if old is None or controller_of(old) is not None or labels_of(old) != labels_of(new):
                # Each finds out for itself whether the pod is for it.
                for key in self._replica_sets.objects:
                    if key.namespace == key_of(new).namespace:
                        self._queue.add(key)

    async def _sync(self, key: ObjectKey) -> float | None:
        manifest = self._replica_sets.objects.get(key)
        if manifest is None:
            return None
        book = self._books.of(uid_of(manifest))
        manifest = book.newest(manifest)
        await self._control.look_up(book)
        problems: list[errors.GpuyardError] = []
        if not manifest["metadata"].get("deletionTimestamp"):
            if await self._claim(manifest, book):
                # What it has taken on or let go of is shown soon, and it is looked at again then.
                return LOOK_UP_AFTER_S
            problems = await self._manage(manifest, book)
        manifest = await self._write_status(manifest, book, problems)
        if problems:
            raise problems[0]
        if book.waiting:
            return LOOK_UP_AFTER_S
        return next_look_s(manifest, self._books.pods_of(uid_of(manifest)), self._clock())

    async def _claim(self, owner: Manifest, book: Bookkeeping) -> bool:
        """Lets go of pods that its selector doesn't match, takes on such that nobody has; whether it did."""
        strangers = [pod for key in book.seen if not selects(owner, pod := self._pods.objects[key])]
        patches = [(pod, release(uid_of(owner), pod)) for pod in strangers]
        found = [pod for key in sorted(self._orphans) if _may_adopt(owner, pod := self._pods.objects[key])]
        if found and not await is_current(self._api, REPLICA_SETS, owner):
            return True
        patches += [(pod, adoption(REPLICA_SETS, owner, pod)) for pod in found]
        changed = [await change_owner(self._api, PODS, pod, patch) for pod, patch in patches]
        return any(changed)

    async def _manage(self, owner: Manifest, book: Bookkeeping) -> list[errors.GpuyardError]:
        active = [pod for pod in self._books.pods_of(uid_of(owner)) if pod.active]
        surplus = len(active) - owner["spec"].get("replicas", 1)
        if surplus > 0:
            count = min(surplus, _MAX_BURST)
            going = to_delete(active, count, self._related(owner), self._clock())
            return await self._control.delete(owner, book, going, counts=True)
        missing = range(min(-surplus, _MAX_BURST))
        return await self._control.create(owner, book, missing, lambda _: pod_of(owner, self._rng))

    def _related(self, owner: Manifest) -> list[PodView]:
        """Active pods of all ReplicaSets of the same Deployment."""
        deployment = (controller_of(owner) or {}).get("uid")
        uids = {uid_of(owner)}
        for other in self._replica_sets.objects.values():
            if deployment and (controller_of(other) or {}).get("uid") == deployment:
                uids.add(uid_of(other))
        return [pod for uid in uids for pod in self._books.pods_of(uid) if pod.active]

    async def _write_status(
        self, old: Manifest, book: Bookkeeping, problems: list[errors.GpuyardError]
    ) -> Manifest:
        problem = problems[0].message if problems else ""
        status = replica_status(old, self._books.pods_of(uid_of(old)), problem, self._clock())
        if status == (old.get("status") or {}):
            return old
        new = await self._api.update(
            REPLICA_SETS, {**with_kind(REPLICA_SETS, old), "status": status}, subresource="status"
        )
        book.wrote(old, new)
        return new


def _may_adopt(owner: Manifest, pod: Manifest) -> bool:
    """Whether it is one of its own that nobody controls, neither ended nor about to go."""
    return (
        key_of(pod).namespace == key_of(owner).namespace
        and not is_terminal(pod)
        and not pod["metadata"].get("deletionTimestamp")
        and selects(owner, pod)
    )
