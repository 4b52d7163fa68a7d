"""Deployments and their ReplicaSets on a yard's own API, with pods that become ready when a test says so."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.api import PatchType
from gpuyard.controllers.deployment.controller import DeploymentController
from gpuyard.controllers.replica_set.controller import ReplicaSetController
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import DEPLOYMENTS, PODS, REPLICA_SETS, Manifest
from gpuyard.kube.timestamps import format_time
from tests.waiting import until_async

# The fixtures `yard` and `clock` are of conftest's classes, which test files can't import.
Yard = Any
Clock = Any


def a_deployment(image: str = "v1", **spec: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "main", "image": image}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    wanted = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {**wanted, **spec}}


class Serving:
    """Pods that become ready at once, those of some images never."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self.never: set[str] = set()
        yard.informers[PODS].add_handler(self._on_pod)
        self._due: list[Manifest] = []

    def _on_pod(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._due.append(new)

    async def turn(self) -> None:
        """Makes all pods ready that are to be, and ends those that are deleted."""
        due, self._due = self._due, []
        for pod in due:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            image = pod["spec"]["containers"][0]["image"]
            if image in self.never or pod.get("status", {}).get("conditions"):
                continue
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(self.yard.clock())}
            status = {"phase": "Running", "conditions": [ready]}
            with contextlib.suppress(errors.NotFound):
                await self.yard.api.patch(PODS, name, {"status": status}, namespace, subresource="status")

    def status(self) -> dict[str, Any]:
        found = self.yard.object(DEPLOYMENTS, "web")
        assert found is not None
        return {"generation": found["metadata"]["generation"], **found.get("status", {})}

    def is_done(self) -> bool:
        """Whether `kubectl rollout status` would end well."""
        one = self.yard.object(DEPLOYMENTS, "web")
        assert one is not None
        status, wanted = one.get("status", {}), one["spec"]["replicas"]
        counts = (status.get(n, 0) for n in ("replicas", "updatedReplicas", "availableReplicas"))
        current = status.get("observedGeneration", 0) >= one["metadata"]["generation"]
        return current and all(count == wanted for count in counts)

    def images(self) -> list[str]:
        return sorted(pod["spec"]["containers"][0]["image"] for pod in self.yard.objects(PODS))

    async def change(self, spec: dict[str, Any], **parts: Any) -> None:
        patch = {"spec": spec, **parts}
        await self.yard.api.patch(DEPLOYMENTS, "web", patch, "default", patch_type=PatchType.STRATEGIC)

    async def image(self, image: str) -> None:
        await self.change({"template": {"spec": {"containers": [{"name": "main", "image": image}]}}})

    async def until(self, holds: Callable[[], Any], what: str = "") -> None:
        """Turns until it holds."""

        async def look() -> Any:
            await self.turn()
            return holds()

        await until_async(look, what or f"{inspect.getsource(holds).strip()}")


@pytest.fixture
async def serving(yard: Yard, clock: Clock) -> AsyncIterator[Serving]:
    informers = yard.informers
    one = Serving(yard)
    sets = ReplicaSetController(
        yard.api, clock, informers[REPLICA_SETS], informers[PODS], seconds=clock.seconds
    )
    deployments = DeploymentController(
        yard.api, clock, informers[DEPLOYMENTS], informers[REPLICA_SETS], informers[PODS]
    )
    async with yard.running(sets, deployments):
        yield one


async def test_from_nothing_to_an_update_and_back(yard: Yard, serving: Serving) -> None:
    await yard.api.create(DEPLOYMENTS, a_deployment())
    await serving.until(serving.is_done)
    assert serving.images() == ["v1"] * 3
    [first] = yard.objects(REPLICA_SETS)
    assert first["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    await serving.image("v2")
    await serving.until(serving.is_done)
    await serving.until(lambda: serving.images() == ["v2"] * 3)
    await serving.image("v1")
    await serving.until(lambda: serving.is_done() and serving.images() == ["v1"] * 3)
    again = yard.object(REPLICA_SETS, first["metadata"]["name"])
    assert again is not None
    annotations = again["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert len(yard.objects(REPLICA_SETS)) == 2
    progressing = find_condition({"status": serving.status()}, "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "NewReplicaSetAvailable"


async def test_a_template_that_never_becomes_ready_stops_and_says_so(
    yard: Yard, serving: Serving, clock: Clock
) -> None:
    serving.never.add("bad")
    await yard.api.create(DEPLOYMENTS, a_deployment(progressDeadlineSeconds=60))
    await serving.until(serving.is_done)
    await serving.image("bad")
    await serving.until(lambda: serving.images() == ["bad", "v1", "v1", "v1"])
    await serving.until(lambda: serving.status().get("updatedReplicas") == 1)
    clock.advance(61)

    def late() -> bool:
        condition = find_condition({"status": serving.status()}, "Progressing") or {}
        return condition.get("reason") == "ProgressDeadlineExceeded"

    await serving.change({}, metadata={"labels": {"look": "again"}})
    await serving.until(late)
    assert serving.images() == ["bad", "v1", "v1", "v1"]


async def test_scaled_by_its_scale_paused_and_resumed(yard: Yard, serving: Serving) -> None:
    await yard.api.create(DEPLOYMENTS, a_deployment())
    await serving.until(serving.is_done)
    scale = {"spec": {"replicas": 5}}
    await yard.api.patch(DEPLOYMENTS, "web", scale, "default", subresource="scale")
    await serving.until(lambda: serving.is_done() and len(yard.objects(PODS)) == 5)
    await serving.change({"paused": True})
    await serving.image("v2")
    await serving.change({"replicas": 2})
    await serving.until(lambda: serving.images() == ["v1", "v1"])
    await serving.change({"paused": None})
    await serving.until(lambda: serving.is_done() and serving.images() == ["v2", "v2"])


async def test_recreate_ends_all_old_pods_first(yard: Yard, serving: Serving) -> None:
    await yard.api.create(DEPLOYMENTS, a_deployment(strategy={"type": "Recreate"}))
    await serving.until(serving.is_done)
    mixed: list[list[str]] = []
    yard.informers[PODS].add_handler(
        lambda _old, _new: mixed.append(serving.images()) if len(set(serving.images())) > 1 else None
    )
    await serving.image("v2")
    await serving.until(lambda: serving.is_done() and serving.images() == ["v2"] * 3)
    assert mixed == []


async def test_the_history_has_its_limit(yard: Yard, serving: Serving) -> None:
    await yard.api.create(DEPLOYMENTS, a_deployment(replicas=1, revisionHistoryLimit=1))
    for image in ("v2", "v3", "v4"):
        await serving.until(serving.is_done)
        await serving.image(image)
    await serving.until(lambda: serving.is_done() and len(yard.objects(REPLICA_SETS)) == 2)
