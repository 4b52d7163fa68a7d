"""The notes on all owners of one kind, kept by what happens to their pods."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gpuyard.client.informer import Informer
from gpuyard.controllers.owned_pods.bookkeeping import Bookkeeping
from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.objects import Manifest, ObjectKey, controller_of, controller_uid, key_of, uid_of


class Books:
    """A book of notes for each owner; it goes when both the owner and the last of its pods are gone.

    Args:
        owners, pods: informers that someone else runs.
        clock: aware UTC now.
        seconds: a steady clock.
    """

    def __init__(
        self,
        owners: Informer,
        pods: Informer,
        clock: Callable[[], datetime],
        seconds: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._owners = owners
        self._pods = pods
        self._clock = clock
        self._seconds = seconds
        self._books: dict[str, Bookkeeping] = {}

    def of(self, owner_uid: str) -> Bookkeeping:
        """The owner's book, begun where there is none."""
        return self._books.setdefault(owner_uid, Bookkeeping(self._clock, self._seconds))

    def pods_of(self, owner_uid: str) -> list[PodView]:
        """The owner's pods as they must be by now."""
        book = self._books.get(owner_uid)
        return [] if book is None else book.pods(self._pods.objects[key] for key in sorted(book.seen))

    def owner_of(self, pod: Manifest) -> Manifest | None:
        """Who controls the pod, as the informer shows it."""
        reference = controller_of(pod)
        if reference is None:
            return None
        owner = self._owners.objects.get(ObjectKey(key_of(pod).namespace, reference["name"]))
        return owner if owner is not None and uid_of(owner) == reference["uid"] else None

    def note_pod(self, old: Manifest | None, new: Manifest | None) -> list[ObjectKey]:
        """Takes in a change of a pod; the owners that should look at it."""
        resource = self._owners.resource
        before, after = controller_uid(old, resource), controller_uid(new, resource)
        concerned: list[ObjectKey] = []
        if old is not None and before and before != after:
            self.of(before).gone(old)
            concerned += self._concerned(old, before)
        if new is not None and after:
            self.of(after).shown(new)
            concerned += self._concerned(new, after)
        return concerned

    def note_gone(self, owner: Manifest) -> frozenset[ObjectKey]:
        """Takes in that an owner is gone; the pods that it leaves."""
        left = frozenset(self.of(uid_of(owner)).seen)
        if not left:
            del self._books[uid_of(owner)]
        return left

    def _concerned(self, pod: Manifest, owner_uid: str) -> list[ObjectKey]:
        owner = self.owner_of(pod)
        if owner is not None:
            return [key_of(owner)]
        if not self._books[owner_uid].seen:
            del self._books[owner_uid]
        return []
