"""The notes on all owners of a kind."""

from __future__ import annotations

from typing import Any

from gpuyard.controllers.owned_pods.books import Books
from gpuyard.kube.objects import PODS, REPLICA_SETS, ObjectKey

# The fixtures `yard` and `clock` are of conftest's classes, which test files can't import.
Yard = Any
Clock = Any
OWNER, POD = ObjectKey("default", "web"), ObjectKey("default", "p")


def a_pod(owner: str = "uid-1") -> dict[str, Any]:
    reference = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "web",
        "uid": owner,
        "controller": True,
    }
    metadata = {"name": "p", "namespace": "default", "uid": "p", "ownerReferences": [reference]}
    return {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}}


def an_owner(uid: str = "uid-1") -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "default", "uid": uid}, "spec": {}}


def books_of(yard: Yard, clock: Clock, owner: dict[str, Any] | None, *pods: dict[str, Any]) -> Books:
    """Over informers that show these."""
    sets, all_pods = yard.informers[REPLICA_SETS], yard.informers[PODS]
    if owner is not None:
        sets._set(OWNER, owner)
    for pod in pods:
        all_pods._set(POD, pod)
    return Books(sets, all_pods, clock, clock.seconds)


async def test_a_change_of_a_pod_is_for_its_owner(yard: Yard, clock: Clock) -> None:
    books = books_of(yard, clock, an_owner(), a_pod())
    assert books.note_pod(None, a_pod()) == [OWNER]
    assert [pod.uid for pod in books.pods_of("uid-1")] == ["p"]
    assert books.owner_of(a_pod()) == an_owner()
    stranger = {**a_pod(), "metadata": {**a_pod()["metadata"], "ownerReferences": []}}
    assert books.note_pod(a_pod(), stranger) == [OWNER]
    assert books.pods_of("uid-1") == []
    assert books.note_pod(stranger, None) == []


async def test_a_pod_of_a_former_owner_of_that_name_is_nobody_s(yard: Yard, clock: Clock) -> None:
    books = books_of(yard, clock, an_owner("uid-2"), a_pod())
    assert books.note_pod(None, a_pod()) == []
    assert books.owner_of(a_pod()) is None
    assert [pod.uid for pod in books.pods_of("uid-1")] == ["p"]


async def test_a_book_goes_with_its_owner_and_the_last_of_its_pods(yard: Yard, clock: Clock) -> None:
    books = books_of(yard, clock, None, a_pod())
    book = books.of("uid-1")
    books.note_pod(None, a_pod())
    assert books.note_gone(an_owner()) == {POD}
    assert books.of("uid-1") is book
    assert books.note_pod(a_pod(), None) == []
    assert books.of("uid-1") is not book
    assert books.note_gone(an_owner()) == frozenset()
