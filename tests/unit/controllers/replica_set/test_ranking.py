"""Who goes first when a ReplicaSet has too many pods."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.controllers.replica_set.ranking import to_delete
from gpuyard.kube.objects import ObjectKey

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def pod(name: str, *, ready: str = "2026-01-31T11:00:00Z", **changes: Any) -> PodView:
    """One that runs and has been ready since then; not ready for an empty time."""
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}] if ready else []
    fields: dict[str, Any] = {
        "key": ObjectKey("default", name), "uid": name, "phase": "Running", "ready": bool(ready),
        "deleting": False, "tracked": False, "finalizers": (), "scheduled": True, "index": None,
        "restarts": 0, "created_at": "2026-01-31T10:00:00Z", "finished_at": None, "node": "n1",
        "status": {"conditions": conditions},
    }  # fmt: skip
    return PodView(**(fields | changes))


@pytest.mark.parametrize(
    "first",
    [
        pod("z", scheduled=False, phase="Pending", ready="", node=""),
        pod("z", phase="Pending", ready=""),
        pod("z", ready=""),
        pod("z", deletion_cost=-1),
        pod("z", ready="2026-01-31T11:59:50Z"),
        pod("z", restarts=3),
        pod("z", created_at="2026-01-31T11:59:50Z"),
    ],
    ids=["unscheduled", "pending", "unready", "cheap", "young", "restarted", "made late"],
)
def test_the_one_that_is_missed_least_goes_first(first: PodView) -> None:
    others = [pod("a"), pod("b")]
    assert to_delete([*others, first], 1, [], NOW) == [first]


def test_one_of_a_crowd_goes_before_one_alone() -> None:
    alone, crowded = pod("a", node="n1"), pod("b", node="n2")
    related = [alone, crowded, pod("c", node="n2")]
    assert to_delete([alone, crowded], 1, related, NOW) == [crowded]


def test_ages_of_one_order_of_magnitude_are_equal() -> None:
    pods = [pod("b", ready="2026-01-31T11:01:00Z"), pod("a", ready="2026-01-31T11:00:00Z")]
    assert [one.uid for one in to_delete(pods, 2, [], NOW)] == ["a", "b"]


@given(st.permutations([pod("a"), pod("b", ready=""), pod("c", deletion_cost=1), pod("d", restarts=1)]))
def test_the_order_of_asking_does_not_matter(pods: list[PodView]) -> None:
    assert [one.uid for one in to_delete(pods, 4, pods, NOW)] == ["b", "d", "a", "c"]


def test_a_pod_without_times_is_ranked_too(make_pod: Callable[..., PodView]) -> None:
    bare = make_pod("x", created_at="")
    assert to_delete([bare], 1, [], NOW) == [bare]
