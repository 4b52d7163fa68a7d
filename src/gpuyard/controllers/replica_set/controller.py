"""The ReplicaSet controller: takes on, makes and deletes pods, and writes how many there are.

Source of its behaviour: kubernetes `pkg/controller/replicaset/replica_set.go`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from datetime import datetime

from gpuyard import errors
from gpuyard.client.api import KubeApi, PatchType
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.job.bookkeeping import LOOK_UP_AFTER_S, Bookkeeping
from gpuyard.controllers.job.pod_control import PodControl
from gpuyard.controllers.job.view import PodView
from gpuyard.controllers.replica_set.pods import adoption, pod_of, release, selects
from gpuyard.controllers.replica_set.ranking import to_delete
from gpuyard.controllers.replica_set.status import next_look_s, replica_status
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.objects import (
    PODS,
    REPLICA_SETS,
    Manifest,
    ObjectKey,
    controller_of,
    controller_uid,
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
        self._books: dict[str, Bookkeeping] = {}
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
        elif old is not None and not self._book(uid_of(old)).seen:
            del self._books[uid_of(old)]

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        before, after = controller_uid(old, REPLICA_SETS), controller_uid(new, REPLICA_SETS)
        if old is not None:
            self._orphans.discard(key_of(old))
            if before and before != after:
                self._book(before).gone(old)
                self._wake_owner(old, before)
        if new is not None and after:
            self._book(after).shown(new)
            self._wake_owner(new, after)
        elif new is not None and controller_of(new) is None:
            self._orphans.add(key_of(new))
            if old is None or controller_of(old) is not None or labels_of(old) != labels_of(new):
                # Each finds out for itself whether the pod is for it.
                for key in self._replica_sets.objects:
                    if key.namespace == key_of(new).namespace:
                        self._queue.add(key)

    def _wake_owner(self, pod: Manifest, uid: str) -> None:
        owner = controller_of(pod) or {}
        key = ObjectKey(key_of(pod).namespace, owner.get("name", ""))
        found = self._replica_sets.objects.get(key)
        if found is not None and uid_of(found) == uid:
            self._queue.add(key)
        elif not self._books[uid].seen:
            del self._books[uid]

    def _book(self, uid: str) -> Bookkeeping:
        return self._books.setdefault(uid, Bookkeeping(self._clock, self._seconds))

    def _views(self, book: Bookkeeping) -> list[PodView]:
        return book.pods(self._pods.objects[key] for key in sorted(book.seen))

    async def _sync(self, key: ObjectKey) -> float | None:
        manifest = self._replica_sets.objects.get(key)
        if manifest is None:
            return None
        book = self._book(uid_of(manifest))
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
        return next_look_s(manifest, self._views(book), self._clock())

    async def _claim(self, owner: Manifest, book: Bookkeeping) -> bool:
        """Lets go of pods that its selector doesn't match, takes on such that nobody has; whether it did."""
        strangers = [pod for key in book.seen if not selects(owner, pod := self._pods.objects[key])]
        changed = [await self._patch(pod, release(uid_of(owner), pod)) for pod in strangers]
        found = [pod for key in sorted(self._orphans) if _may_adopt(owner, pod := self._pods.objects[key])]
        if found and not await self._is_current(owner):
            return True
        changed += [await self._patch(pod, adoption(REPLICA_SETS, owner, pod)) for pod in found]
        return any(changed)

    async def _is_current(self, owner: Manifest) -> bool:
        """Whether the API, and not only a late informer, has this owner, and nobody is deleting it."""
        key = key_of(owner)
        try:
            now = await self._api.get(REPLICA_SETS, key.name, key.namespace)
        except errors.NotFound:
            return False
        return uid_of(now) == uid_of(owner) and not now["metadata"].get("deletionTimestamp")

    async def _patch(self, pod: Manifest, patch: Manifest) -> bool:
        """Whether it was the pod that is meant, and it could be changed: it may be gone, or just going."""
        key = key_of(pod)
        with contextlib.suppress(errors.NotFound, errors.Conflict, errors.Invalid):
            await self._api.patch(PODS, key.name, patch, key.namespace, patch_type=PatchType.STRATEGIC)
            return True
        return False

    async def _manage(self, owner: Manifest, book: Bookkeeping) -> list[errors.GpuyardError]:
        active = [pod for pod in self._views(book) if pod.active]
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
        books = (book for uid in uids if (book := self._books.get(uid)) is not None)
        return [pod for book in books for pod in self._views(book) if pod.active]

    async def _write_status(
        self, old: Manifest, book: Bookkeeping, problems: list[errors.GpuyardError]
    ) -> Manifest:
        problem = problems[0].message if problems else ""
        status = replica_status(old, self._views(book), problem, self._clock())
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
