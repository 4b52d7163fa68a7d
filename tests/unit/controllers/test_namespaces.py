from __future__ import annotations

from typing import Any

from gpuyard.controllers.namespaces import NamespaceController
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS
from gpuyard.local.objects.kinds.served import yard_kinds

# conftest's class, which test files can't import.
Yard = Any


def controller(yard: Yard) -> NamespaceController:
    return NamespaceController(
        yard.api,
        yard.clock,
        yard.informers[NAMESPACES],
        yard.informers[SERVICE_ACCOUNTS],
        [kind.resource for kind in yard_kinds()],
    )


async def namespace(yard: Yard, name: str) -> None:
    await yard.api.create(NAMESPACES, {"metadata": {"name": name}})


async def test_every_namespace_has_a_default_service_account(yard: Yard) -> None:
    async with yard.running(controller(yard)):
        await namespace(yard, "team")
        for name in ("default", "kube-system", "team"):
            await yard.until(lambda name=name: yard.object(SERVICE_ACCOUNTS, "default", name))
        first = yard.object(SERVICE_ACCOUNTS, "default", "team")
        await yard.api.delete(SERVICE_ACCOUNTS, "default", "team")
        await yard.until(lambda: yard.object(SERVICE_ACCOUNTS, "default", "team") not in (None, first))


async def test_a_deleted_namespace_takes_its_objects_along(yard: Yard) -> None:
    async with yard.running(controller(yard)):
        await namespace(yard, "team")
        await yard.until(lambda: yard.object(SERVICE_ACCOUNTS, "default", "team"))
        await yard.api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "team"}})
        await yard.api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
        await yard.api.delete(NAMESPACES, "team")
        await yard.until(lambda: yard.object(NAMESPACES, "team") is None)
        assert yard.objects(CONFIG_MAPS, "team") == []
        assert yard.objects(SERVICE_ACCOUNTS, "team") == []
    assert len(yard.objects(CONFIG_MAPS, "default")) == 1


async def test_a_namespace_waits_for_objects_that_are_held_and_says_so(yard: Yard) -> None:
    async with yard.running(controller(yard)):
        await namespace(yard, "team")
        held = {"name": "a", "namespace": "team", "finalizers": ["example.com/held"]}
        await yard.api.create(CONFIG_MAPS, {"metadata": held})
        await yard.api.delete(NAMESPACES, "team")

        def condition() -> Any:
            return find_condition(yard.object(NAMESPACES, "team") or {}, "NamespaceContentRemaining")

        await yard.until(condition)
        assert condition()["message"] == "Some resources are remaining: configmaps. has 1 resource instances"
        await yard.api.patch(CONFIG_MAPS, "a", {"metadata": {"finalizers": None}}, "team")
        await yard.until(lambda: yard.object(NAMESPACES, "team") is None)
