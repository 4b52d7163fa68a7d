"""What a budget allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuyard.controllers.disruption.budget import (
    DELETION_TIMEOUT,
    Expectation,
    Scale,
    budget_status,
    expectation,
    next_look_s,
    scale_of,
)
from gpuyard.kube.objects import Manifest, ObjectKey
from gpuyard.kube.timestamps import format_time

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def a_budget(status: dict[str, Any] | None = None, **spec: Any) -> Manifest:
    return {"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status or {}}


def a_pod(
    name: str, *, ready: bool = True, owner: str = "", kind: str = "ReplicaSet", **metadata: Any
) -> Manifest:
    made: Manifest = {"name": name, "namespace": "default", "uid": name, **metadata}
    if owner:
        version = "apps/v1" if kind == "ReplicaSet" else "batch/v1"
        made["ownerReferences"] = [
            {"apiVersion": version, "kind": kind, "name": owner, "uid": owner, "controller": True}
        ]
    return {"metadata": made, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


def owned(name: str, replicas: int, owner: str = "") -> Manifest:
    metadata: Manifest = {"name": name, "namespace": "default", "uid": name}
    if owner:
        metadata["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": owner, "controller": True}
        ]
    return {"metadata": metadata, "spec": {"replicas": replicas}}


def by_name(*manifests: Manifest) -> dict[ObjectKey, Manifest]:
    return {ObjectKey("default", one["metadata"]["name"]): one for one in manifests}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"minAvailable": 2}, Expectation(3, 2)),
        ({"minAvailable": "50%"}, Expectation(5, 3)),
        ({"maxUnavailable": 1}, Expectation(5, 4)),
        ({"maxUnavailable": "30%"}, Expectation(5, 3)),
        ({"maxUnavailable": 9}, Expectation(5, 0)),
        ({}, Expectation(5, 0)),
    ],
)
def test_how_many_pods_there_should_be(spec: dict[str, Any], wanted: Expectation) -> None:
    pods = [a_pod("a"), a_pod("b"), a_pod("c")]
    scales = [Scale("web", 4), Scale("web", 4), None, Scale("db", 1)]
    assert expectation(a_budget(**spec), pods, scales) == wanted


def test_nobody_knows_how_many_pods_a_job_should_have() -> None:
    scale = scale_of(a_pod("a", owner="train", kind="Job"), {}, {})
    assert scale == "jobs.batch does not implement the scale subresource"
    assert expectation(a_budget(maxUnavailable=1), [a_pod("a")], [scale]).failure == scale
    assert expectation(a_budget(minAvailable=1), [a_pod("a")], [scale]) == Expectation(1, 1)


def test_who_says_how_many_pods_there_should_be() -> None:
    pod = a_pod("a", owner="web-1")
    deployments = by_name(owned("web", 5))
    assert scale_of(pod, by_name(owned("web-1", 2, "web")), deployments) == Scale("web", 5)
    assert scale_of(pod, by_name(owned("web-1", 2)), deployments) == Scale("web-1", 2)
    assert scale_of(pod, {}, deployments) == 'found no controllers for pod "a"'
    assert scale_of(a_pod("a"), {}, {}) is None


@pytest.mark.parametrize(
    ("pods", "wanted", "allowed"),
    [
        ([a_pod("a"), a_pod("b"), a_pod("c")], Expectation(3, 2), 1),
        ([a_pod("a"), a_pod("b"), a_pod("c", ready=False)], Expectation(3, 2), 0),
        (
            [a_pod("a"), a_pod("b"), a_pod("c", deletionTimestamp="2026-01-31T12:00:00Z")],
            Expectation(3, 2),
            0,
        ),
        ([a_pod("a")], Expectation(0, 0), 0),
        ([], Expectation(0, 2), 0),
    ],
)
def test_how_many_may_go(pods: list[Manifest], wanted: Expectation, allowed: int) -> None:
    status = budget_status(a_budget(), pods, wanted, NOW)
    assert status["disruptionsAllowed"] == allowed
    assert (status["observedGeneration"], status["desiredHealthy"]) == (3, wanted.healthy)
    [condition] = status["conditions"]
    expected = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    assert (condition["status"], condition["reason"]) == expected


def test_a_pod_that_is_about_to_be_evicted_counts_no_more() -> None:
    old = {"disruptedPods": {"a": format_time(NOW), "gone": format_time(NOW)}}
    pods = [a_pod("a"), a_pod("b")]
    status = budget_status(a_budget(old), pods, Expectation(2, 1), NOW)
    assert (status["currentHealthy"], status["disruptionsAllowed"]) == (1, 0)
    assert status["disruptedPods"] == {"a": format_time(NOW)}
    assert next_look_s(status, NOW) == DELETION_TIMEOUT.total_seconds()
    later = budget_status(a_budget(status), pods, Expectation(2, 1), NOW + timedelta(minutes=2))
    assert (later["currentHealthy"], later["disruptionsAllowed"]) == (2, 1)
    assert "disruptedPods" not in later
    assert next_look_s(later, NOW) is None


@pytest.mark.parametrize("at", ["", "yesterday", "2026-13-01T00:00:00Z", None, 7])
def test_what_is_no_time_does_not_freeze_it(at: Any) -> None:
    damaged = {"disruptedPods": {"a": at, "b": format_time(NOW)}}
    status = budget_status(a_budget(damaged), [a_pod("a"), a_pod("b")], Expectation(2, 1), NOW)
    assert (status["currentHealthy"], status["disruptedPods"]) == (1, {"b": format_time(NOW)})
    failed = budget_status(a_budget(damaged), [], Expectation(failure="found no controllers"), NOW)
    assert failed["disruptedPods"] == {"b": format_time(NOW)}
    assert next_look_s(failed, NOW) == DELETION_TIMEOUT.total_seconds()


def test_the_last_moment_of_all_is_a_time() -> None:
    last = {"disruptedPods": {"a": "9999-12-31T23:59:59Z"}}
    status = budget_status(a_budget(last), [a_pod("a")], Expectation(1, 0), NOW)
    assert status["disruptedPods"] == last["disruptedPods"]
    assert (next_look_s(status, NOW) or 0) > 0


def test_nothing_is_allowed_that_nobody_can_count() -> None:
    old = {"disruptionsAllowed": 2, "currentHealthy": 3, "observedGeneration": 3}
    status = budget_status(a_budget(old), [], Expectation(failure="found no controllers"), NOW)
    [condition] = status["conditions"]
    assert (status["disruptionsAllowed"], status["currentHealthy"]) == (0, 3)
    assert (condition["reason"], condition["message"]) == ("SyncFailed", "found no controllers")


def test_a_status_that_is_right_stays() -> None:
    status = budget_status(a_budget(), [a_pod("a")], Expectation(1, 0), NOW)
    later = NOW + timedelta(hours=1)
    assert budget_status(a_budget(status), [a_pod("a")], Expectation(1, 0), later) == status
