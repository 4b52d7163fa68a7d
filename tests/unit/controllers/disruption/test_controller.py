"""Budgets on a yard's own API, with its Deployments."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard import errors
from gpuyard.controllers.deployment.controller import DeploymentController
from gpuyard.controllers.disruption.controller import DisruptionController
from gpuyard.controllers.replica_set.controller import ReplicaSetController
from gpuyard.kube.objects import DEPLOYMENTS, DISRUPTION_BUDGETS, EVENTS, PODS, REPLICA_SETS, ObjectKey
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects.admission import DEFAULT

# The fixtures `yard` and `clock` are of conftest's classes, which test files can't import.
Yard = Any
Clock = Any


def a_budget(**spec: Any) -> dict[str, Any]:
    wanted = {"selector": {"matchLabels": {"app": "web"}}, **spec}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": wanted}


def a_deployment(replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "m", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def controllers(yard: Yard, clock: Clock) -> tuple[DisruptionController, Any, Any]:
    budgets, pods, sets, deployments = (
        yard.informers[kind] for kind in (DISRUPTION_BUDGETS, PODS, REPLICA_SETS, DEPLOYMENTS)
    )
    return (
        DisruptionController(yard.api, clock, budgets, pods, sets, deployments),
        ReplicaSetController(yard.api, clock, sets, pods, seconds=clock.seconds),
        DeploymentController(yard.api, clock, deployments, sets, pods),
    )


def status(yard: Yard) -> dict[str, Any]:
    found: dict[str, Any] = yard.object(DISRUPTION_BUDGETS, "web")["status"]
    return found


def allowed(yard: Yard) -> tuple[int, int, int]:
    now = status(yard)
    return now["currentHealthy"], now["expectedPods"], now["disruptionsAllowed"]


async def make_ready(yard: Yard, name: str) -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(yard.clock())}
    patch = {"status": {"phase": "Running", "conditions": [ready]}}
    await yard.api.patch(PODS, name, patch, "default", subresource="status")


async def evict(yard: Yard, name: str) -> None:
    spec = yard.api.kinds.of(PODS)
    await yard.api.create_below_raw(
        spec, ObjectKey("default", name), spec.subresource("eviction"), {"metadata": {"name": name}}, DEFAULT
    )


def names(yard: Yard) -> list[str]:
    return [pod["metadata"]["name"] for pod in yard.objects(PODS)]


async def test_it_follows_pods_and_their_owners(yard: Yard, clock: Clock) -> None:
    async with yard.running(*controllers(yard, clock)):
        await yard.api.create(DISRUPTION_BUDGETS, a_budget(maxUnavailable=1))
        await yard.api.create(DEPLOYMENTS, a_deployment(2))
        await yard.until(lambda: len(names(yard)) == 2 and allowed(yard) == (0, 2, 0))
        for name in names(yard):
            await make_ready(yard, name)
        await yard.until(lambda: allowed(yard) == (2, 2, 1))
        scale = {"spec": {"replicas": 4}}
        await yard.api.patch(DEPLOYMENTS, "web", scale, "default", subresource="scale")
        await yard.until(lambda: allowed(yard) == (2, 4, 0))


async def test_evictions_never_take_more_than_it_allows(yard: Yard, clock: Clock) -> None:
    async with yard.running(*controllers(yard, clock)):
        await yard.api.create(DISRUPTION_BUDGETS, a_budget(maxUnavailable=1))
        await yard.api.create(DEPLOYMENTS, a_deployment(3))
        await yard.until(lambda: len(names(yard)) == 3)
        before = names(yard)
        for name in before:
            await make_ready(yard, name)
        await yard.until(lambda: allowed(yard) == (3, 3, 1))
        await evict(yard, before[0])
        with pytest.raises(errors.TooManyRequests, match=r"would violate the pod's disruption budget\.$"):
            await evict(yard, before[1])
        # Another takes its place; once it is ready, the next one may go.
        await yard.until(lambda: len(set(names(yard)) - set(before)) == 1)
        assert allowed(yard)[2] == 0
        await make_ready(yard, (set(names(yard)) - set(before)).pop())
        await yard.until(lambda: allowed(yard) == (3, 3, 1))
        await evict(yard, before[1])


async def test_an_eviction_that_comes_to_nothing_is_forgotten(yard: Yard, clock: Clock) -> None:
    controller, *others = controllers(yard, clock)
    async with yard.running(controller, *others):
        await yard.api.create(DEPLOYMENTS, a_deployment(1))
        await yard.until(lambda: len(names(yard)) == 1)
        await make_ready(yard, names(yard)[0])
        await yard.api.create(DISRUPTION_BUDGETS, a_budget(minAvailable=0))
        await yard.until(lambda: allowed(yard) == (1, 1, 1))
        taken = {"status": {"disruptedPods": {names(yard)[0]: format_time(clock())}}}
        await yard.api.patch(DISRUPTION_BUDGETS, "web", taken, "default", subresource="status")
        await yard.until(lambda: allowed(yard) == (0, 1, 0))
        clock.advance(121)
        controller.wake()
        await yard.until(lambda: allowed(yard) == (1, 1, 1))


async def test_it_says_why_it_cannot_count(yard: Yard, clock: Clock) -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "1", "controller": True}
    spec = {"containers": [{"name": "main", "image": "i"}]}
    metadata = {"name": "a", "namespace": "default", "labels": {"app": "web"}, "ownerReferences": [owner]}
    async with yard.running(*controllers(yard, clock)):
        await yard.api.create(PODS, {"metadata": metadata, "spec": spec})
        await yard.api.create(DISRUPTION_BUDGETS, a_budget(maxUnavailable="50%"))
        await yard.until(lambda: status(yard).get("conditions"))
        [condition] = status(yard)["conditions"]
        assert condition["message"] == "jobs.batch does not implement the scale subresource"
        await yard.until(lambda: yard.objects(EVENTS))
        assert yard.reasons() == ["CalculateExpectedPodCountFailed"]
