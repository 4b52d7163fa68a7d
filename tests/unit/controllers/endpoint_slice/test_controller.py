"""Slices of Services on a yard's own API."""

from __future__ import annotations

from typing import Any

from gpuyard.client.supervision import Supervisor
from gpuyard.controllers.endpoint_slice.controller import EndpointSliceController
from gpuyard.controllers.garbage import GarbageCollector
from gpuyard.kube.objects import ENDPOINT_SLICES, PODS, SERVICES

# The fixture `yard` is of a class of conftest's, which test files can't import.
Yard = Any


def a_service(name: str = "web", **spec: Any) -> dict[str, Any]:
    wanted = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {**wanted, **spec}}


def a_pod(name: str, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": "i"}]}
    metadata = {"name": name, "namespace": "default", "labels": labels or {"app": "web"}}
    return {"metadata": metadata, "spec": spec}


def a_controller(yard: Yard) -> EndpointSliceController:
    informers = yard.informers
    return EndpointSliceController(yard.api, informers[SERVICES], informers[PODS], informers[ENDPOINT_SLICES])


async def run(yard: Yard, name: str, *, ready: bool = True, **labels: str) -> None:
    """A pod that has an address."""
    await yard.api.create(PODS, a_pod(name, **labels))
    await set_ready(yard, name, ready)


async def set_ready(yard: Yard, name: str, ready: bool) -> None:
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"phase": "Running", "podIPs": [{"ip": "127.0.0.1"}], "conditions": conditions}
    await yard.api.patch(PODS, name, {"status": status}, "default", subresource="status")


def ready(yard: Yard) -> dict[str, bool]:
    """Whether each of the pods in slices is ready."""
    return {
        endpoint["targetRef"]["name"]: endpoint["conditions"]["ready"]
        for one in yard.objects(ENDPOINT_SLICES)
        for endpoint in one["endpoints"]
    }


async def test_slices_follow_pods_and_services(yard: Yard) -> None:
    await run(yard, "a")
    await run(yard, "other", app="db")
    async with yard.running(a_controller(yard)):
        await yard.api.create(SERVICES, a_service())
        await yard.until(lambda: ready(yard) == {"a": True})
        await run(yard, "b", ready=False)
        await yard.until(lambda: ready(yard) == {"a": True, "b": False})
        await set_ready(yard, "b", True)
        await set_ready(yard, "a", False)
        await yard.until(lambda: ready(yard) == {"a": False, "b": True})
        await yard.api.patch(PODS, "b", {"metadata": {"labels": {"app": "debug"}}}, "default")
        await yard.until(lambda: ready(yard) == {"a": False})
        await yard.api.patch(SERVICES, "web", {"spec": {"selector": {"app": "db"}}}, "default")
        await yard.until(lambda: ready(yard) == {"other": True})
        ports = {"metadata": {"annotations": {"gpuyard.io/ports": '{"8000": 41234}'}}}
        await yard.api.patch(PODS, "other", ports, "default")
        await yard.until(
            lambda: [one["ports"][0]["port"] for one in yard.objects(ENDPOINT_SLICES)] == [41234]
        )


async def test_what_changes_nothing_is_not_written(yard: Yard) -> None:
    async with yard.running(a_controller(yard)):
        await yard.api.create(SERVICES, a_service())
        await run(yard, "a")
        await yard.until(lambda: ready(yard) == {"a": True} and len(yard.objects(ENDPOINT_SLICES)) == 1)
        [before] = yard.objects(ENDPOINT_SLICES)
        await yard.api.patch(PODS, "a", {"metadata": {"annotations": {"note": "1"}}}, "default")
        await yard.api.patch(SERVICES, "web", {"metadata": {"annotations": {"note": "1"}}}, "default")
        await run(yard, "stranger", app="db")
        # Another Service's slice comes after all of that was seen.
        await yard.api.create(SERVICES, a_service("db", selector={"app": "db"}))
        await yard.until(lambda: "stranger" in ready(yard))
        assert before in yard.objects(ENDPOINT_SLICES)


async def test_a_slice_that_somebody_spoils_is_made_anew(yard: Yard) -> None:
    async with yard.running(a_controller(yard)):
        await yard.api.create(SERVICES, a_service())
        await run(yard, "a")
        await yard.until(lambda: ready(yard) == {"a": True} and len(yard.objects(ENDPOINT_SLICES)) == 1)
        name = yard.objects(ENDPOINT_SLICES)[0]["metadata"]["name"]
        await yard.api.patch(ENDPOINT_SLICES, name, {"endpoints": []}, "default")
        await yard.until(lambda: ready(yard) == {"a": True})
        await yard.api.delete(ENDPOINT_SLICES, name, "default")
        await yard.until(lambda: ready(yard) == {"a": True})


async def test_a_service_without_a_selector_has_slices_of_others(yard: Yard) -> None:
    labels = {"kubernetes.io/service-name": "web"}
    mine = {"metadata": {"name": "mine", "namespace": "default", "labels": labels}, "addressType": "IPv4"}
    async with yard.running(a_controller(yard)):
        await yard.api.create(SERVICES, a_service(selector={}))
        await yard.api.create(ENDPOINT_SLICES, mine)
        await yard.api.create(SERVICES, a_service("db", selector={"app": "db"}))
        await yard.until(lambda: len(yard.objects(ENDPOINT_SLICES)) == 2)
        owners = [one["metadata"].get("ownerReferences", [{}])[0] for one in yard.objects(ENDPOINT_SLICES)]
        assert sorted(owner.get("name", "") for owner in owners) == ["", "db"]


async def test_slices_go_with_their_service(yard: Yard) -> None:
    garbage = GarbageCollector(yard.api, yard.informers, Supervisor())
    async with yard.running(a_controller(yard), garbage):
        await yard.api.create(SERVICES, a_service())
        await run(yard, "a")
        await yard.until(lambda: ready(yard) == {"a": True})
        await yard.api.delete(SERVICES, "web", "default")
        await yard.until(lambda: yard.objects(ENDPOINT_SLICES) == [])
