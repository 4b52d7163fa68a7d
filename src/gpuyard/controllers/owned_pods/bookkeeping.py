"""What a controller has done with the pods of a Job or a ReplicaSet that its informers don't show yet.

Without it a late informer would let the controller make a pod twice or count an outcome twice. Each note
is made before the request is sent and struck out by the informer's own event, so neither
order of answer and event matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from gpuyard.controllers.owned_pods.view import PodView, view_pod
from gpuyard.kube.ages import Ages, seconds_since_boot
from gpuyard.kube.objects import Manifest, ObjectKey, key_of, uid_of

#: A pod that no event has shown by then is looked up.
LOOK_UP_AFTER_S = 5.0


@dataclass(frozen=True)
class _Unseen:
    manifest: Manifest
    since_s: float


class Bookkeeping:
    """Notes on one Job or ReplicaSet (one uid) and its pods.

    Args:
        clock: aware UTC now.
        seconds: a steady clock.
    """

    def __init__(
        self, clock: Callable[[], datetime], seconds: Callable[[], float] = seconds_since_boot
    ) -> None:
        #: Of the times in the Job and its pods.
        self.age = Ages(clock, seconds)
        self._seconds = seconds
        #: Pods that the informer has shown and not yet reported gone.
        self.seen: set[ObjectKey] = set()
        self._unseen: dict[ObjectKey, _Unseen] = {}
        self._deleted: set[str] = set()
        self._released: set[str] = set()
        self._latest: Manifest | None = None
        self._superseded: set[str] = set()

    def newest(self, job: Manifest) -> Manifest:
        """The informer's copy of the owner, unless the controller itself has replaced that one since."""
        if self._latest is not None and job["metadata"]["resourceVersion"] in self._superseded:
            return self._latest
        self._latest = None
        self._superseded.clear()
        return job

    def wrote(self, old: Manifest, new: Manifest) -> None:
        """`new`, of the owner, has replaced `old`."""
        self._superseded.add(old["metadata"]["resourceVersion"])
        self._latest = new

    def creating(self, pod: Manifest) -> None:
        """The pod is about to be created."""
        self._unseen[key_of(pod)] = _Unseen(pod, self._seconds())

    def created(self, pod: Manifest) -> None:
        """The server's answer; an event may have shown the pod already."""
        if key_of(pod) in self._unseen:
            self._unseen[key_of(pod)] = _Unseen(pod, self._seconds())

    def not_created(self, key: ObjectKey) -> None:
        """There is no such pod."""
        self._unseen.pop(key, None)

    def overdue(self) -> list[ObjectKey]:
        """Created pods that no event has shown for long."""
        border_s = self._seconds() - LOOK_UP_AFTER_S
        return [key for key, unseen in self._unseen.items() if unseen.since_s <= border_s]

    @property
    def waiting(self) -> bool:
        """Whether some created pod hasn't been shown yet."""
        return bool(self._unseen)

    def deleting(self, uid: str) -> None:
        """The pod is about to be deleted."""
        self._deleted.add(uid)

    def not_deleted(self, uid: str) -> None:
        """It wasn't."""
        self._deleted.discard(uid)

    def releasing(self, uid: str) -> None:
        """The pod's tracking finalizer is about to be taken off."""
        self._released.add(uid)

    def not_released(self, uid: str) -> None:
        """It is still there."""
        self._released.discard(uid)

    def shown(self, pod: Manifest) -> None:
        """The informer shows this state of a pod."""
        self.seen.add(key_of(pod))
        self._unseen.pop(key_of(pod), None)
        view = view_pod(pod)
        if view.deleting:
            self._deleted.discard(view.uid)
        if not view.tracked:
            self._released.discard(view.uid)

    def gone(self, pod: Manifest) -> None:
        """The informer says that the pod is gone, or isn't this owner's any more."""
        self.seen.discard(key_of(pod))
        self._unseen.pop(key_of(pod), None)
        self._deleted.discard(uid_of(pod))
        self._released.discard(uid_of(pod))

    def pods(self, shown: Iterable[Manifest]) -> list[PodView]:
        """The pods as they must be by now: what informers show, corrected by the notes."""
        views = [view_pod(manifest) for manifest in shown]
        views += [view_pod(unseen.manifest) for unseen in self._unseen.values()]
        return [
            replace(
                pod,
                deleting=pod.deleting or pod.uid in self._deleted,
                tracked=pod.tracked and pod.uid not in self._released,
            )
            for pod in views
        ]
