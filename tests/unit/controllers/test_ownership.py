from __future__ import annotations

from typing import Any

import pytest

from gpuyard.client.api import Propagation
from gpuyard.controllers.ownership import Delete, Keep, OwnerState, decide, finalizers_of, references_of

P, W, A = OwnerState.PRESENT, OwnerState.WAITING, OwnerState.ABSENT


def reference(uid: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid}


def dependent(*owners: str, finalizers: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "d",
            "uid": "d",
            "finalizers": list(finalizers),
            "ownerReferences": [reference(owner) for owner in owners],
        }
    }


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ({"a": P}, ["a"]),
        ({"a": P, "b": A}, ["a"]),
        ({"a": W, "b": P}, ["b"]),
        ({"a": P, "b": P}, ["a", "b"]),
        ({}, []),
    ],
)
def test_one_owner_is_enough_to_stay(states: dict[str, OwnerState], kept: list[str]) -> None:
    verdict = decide(dependent(*states), lambda r: states[r["uid"]], has_dependents=True)
    assert verdict == Keep(tuple(reference(uid) for uid in kept))


@pytest.mark.parametrize(
    ("states", "finalizers", "has_dependents", "propagation"),
    [
        ({"a": A}, (), True, Propagation.BACKGROUND),
        ({"a": W}, (), False, Propagation.BACKGROUND),
        ({"a": W}, (), True, Propagation.FOREGROUND),
        ({"a": W, "b": A}, (), True, Propagation.FOREGROUND),
        ({"a": A}, ("orphan",), True, Propagation.ORPHAN),
        ({"a": A}, ("foregroundDeletion",), False, Propagation.FOREGROUND),
    ],
)
def test_without_owners_it_goes(
    states: dict[str, OwnerState],
    finalizers: tuple[str, ...],
    has_dependents: bool,
    propagation: Propagation,
) -> None:
    manifest = dependent(*states, finalizers=finalizers)
    verdict = decide(manifest, lambda r: states[r["uid"]], has_dependents=has_dependents)
    assert verdict == Delete(propagation)


@pytest.mark.parametrize(
    "odd", [None, 5, "text", {"uid": "a"}, [None, 5, "text", {"uid": ["a"]}, {"uid": "a"}]]
)
def test_references_and_finalizers_that_are_not_whole_name_nobody(odd: object) -> None:
    assert references_of({"metadata": {"ownerReferences": odd}}) == ()
    assert set(finalizers_of({"metadata": {"finalizers": odd}})) <= {"text"}
