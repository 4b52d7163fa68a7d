"""ReplicaSets on a yard's own API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gpuyard.client.api import KubeApi, WatchEvent
from gpuyard.client.informer import Informer
from gpuyard.controllers.replica_set.controller import ReplicaSetController
from gpuyard.kube.objects import PODS, REPLICA_SETS, Resource, controller_of
from gpuyard.kube.timestamps import format_time

# The fixtures `yard` and `clock` are of conftest's classes, which test files can't import.
Yard = Any
Clock = Any


def a_replica_set(**spec: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "main", "image": "i"}]}
    template = {"metadata": {"labels": {"app": "web", "tier": "a"}}, "spec": pod}
    wanted = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {**wanted, **spec}}


def a_pod(name: str, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": "i"}]}
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": spec}


def status(yard: Yard) -> dict[str, Any]:
    found: dict[str, Any] = yard.object(REPLICA_SETS, "web")["status"]
    return found


async def make_ready(yard: Yard, pod: dict[str, Any]) -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(yard.clock())}
    patch = {"status": {"phase": "Running", "conditions": [ready]}}
    await yard.api.patch(PODS, pod["metadata"]["name"], patch, "default", subresource="status")


def a_controller(yard: Yard, clock: Clock, pods: Informer | None = None) -> ReplicaSetController:
    sets = yard.informers[REPLICA_SETS]
    return ReplicaSetController(yard.api, clock, sets, pods or yard.informers[PODS], seconds=clock.seconds)


async def scale(yard: Yard, replicas: int) -> None:
    await yard.api.patch(
        REPLICA_SETS, "web", {"spec": {"replicas": replicas}}, "default", subresource="scale"
    )


async def test_it_keeps_as_many_as_it_says(yard: Yard, clock: Clock) -> None:
    async with yard.running(a_controller(yard, clock)):
        await yard.api.create(REPLICA_SETS, a_replica_set())
        await yard.until(lambda: status(yard)["replicas"] == 3)
        pods = yard.objects(PODS)
        assert all((controller_of(pod) or {})["kind"] == "ReplicaSet" for pod in pods)
        await make_ready(yard, pods[0])
        await yard.until(lambda: status(yard).get("availableReplicas") == 1)
        # The one that is ready stays.
        await scale(yard, 1)
        await yard.until(lambda: status(yard)["replicas"] == 1)
        assert [pod["metadata"]["name"] for pod in yard.objects(PODS)] == [pods[0]["metadata"]["name"]]
        await yard.api.delete(PODS, pods[0]["metadata"]["name"], "default")
        await yard.until(lambda: len(yard.objects(PODS)) == 1 and not status(yard).get("readyReplicas"))
        assert status(yard)["observedGeneration"] == 2


async def test_a_late_informer_makes_no_pod_twice(yard: Yard, clock: Clock) -> None:
    late: Any = LateApi(yard.api)
    pods = Informer(late, PODS)
    async with yard.running(a_controller(yard, clock, pods), pods):
        await yard.api.create(REPLICA_SETS, a_replica_set())
        await yard.until(lambda: len(yard.objects(PODS)) == 3)
        for number in range(5):
            patch = {"metadata": {"annotations": {"touched": str(number)}}}
            await yard.api.patch(REPLICA_SETS, "web", patch, "default")
        await scale(yard, 4)
        await yard.until(lambda: len(yard.objects(PODS)) == 4)
        await scale(yard, 2)
        await yard.until(lambda: len(yard.objects(PODS)) == 2)
        late.gate.set()
        await yard.until(lambda: status(yard)["replicas"] == 2)
    assert len(yard.objects(PODS)) == 2


class LateApi:
    """Holds watch events back until it is told to let them through."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self.gate = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def watch(self, resource: Resource, *args: Any, **kwargs: Any) -> AsyncIterator[WatchEvent]:
        async for event in self._api.watch(resource, *args, **kwargs):
            await self.gate.wait()
            yield event


async def test_it_takes_on_what_is_its_own_and_lets_go_of_what_is_not(yard: Yard, clock: Clock) -> None:
    await yard.api.create(PODS, a_pod("mine", app="web"))
    await yard.api.create(PODS, a_pod("other", app="db"))
    async with yard.running(a_controller(yard, clock)):
        await yard.api.create(REPLICA_SETS, a_replica_set(replicas=2))
        await yard.until(lambda: status(yard)["replicas"] == 2)
        assert len(yard.objects(PODS)) == 3
        assert (controller_of(yard.object(PODS, "mine")) or {})["name"] == "web"
        assert controller_of(yard.object(PODS, "other")) is None
        assert status(yard)["fullyLabeledReplicas"] == 1
        # A pod that is taken out of service, to be looked at, is replaced.
        await yard.api.patch(PODS, "mine", {"metadata": {"labels": {"app": "debug"}}}, "default")
        await yard.until(lambda: len(yard.objects(PODS)) == 4)
        await yard.until(lambda: controller_of(yard.object(PODS, "mine")) is None)


async def test_a_pod_is_available_when_it_has_been_ready_for_long(yard: Yard, clock: Clock) -> None:
    controller = a_controller(yard, clock)
    async with yard.running(controller):
        await yard.api.create(REPLICA_SETS, a_replica_set(replicas=1, minReadySeconds=60))
        await yard.until(lambda: status(yard)["replicas"] == 1)
        await make_ready(yard, yard.objects(PODS)[0])
        await yard.until(lambda: status(yard).get("readyReplicas") == 1)
        assert "availableReplicas" not in status(yard)
        clock.advance(60)
        controller.wake()
        await yard.until(lambda: status(yard).get("availableReplicas") == 1)


async def test_pods_that_are_refused_are_told_of(yard: Yard, clock: Clock) -> None:
    pod = {"containers": [{"name": "main", "image": "i"}], "priorityClassName": "nobody"}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    async with yard.running(a_controller(yard, clock)):
        await yard.api.create(REPLICA_SETS, a_replica_set(template=template))
        await yard.until(lambda: status(yard).get("conditions"))
    [condition] = status(yard)["conditions"]
    assert (condition["type"], condition["reason"]) == ("ReplicaFailure", "FailedCreate")
    assert "no PriorityClass with name nobody was found" in condition["message"]
    assert yard.objects(PODS) == []
