from __future__ import annotations

from typing import Any

from gpuyard.client.api import Propagation
from gpuyard.client.supervision import Supervisor
from gpuyard.controllers.garbage import GarbageCollector
from gpuyard.kube.objects import CONFIG_MAPS, SECRETS, uid_of

# conftest's class, which test files can't import.
Yard = Any


async def make(yard: Yard, name: str, *owners: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A ConfigMap with these owners, each of which it blocks."""
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": uid_of(owner),
            "blockOwnerDeletion": True,
        }
        for owner in owners
    ]
    raw = {"metadata": {"name": name, "namespace": "default", "ownerReferences": references, **metadata}}
    made: dict[str, Any] = await yard.api.create(CONFIG_MAPS, raw)
    return made


def names(yard: Yard) -> list[str]:
    return [item["metadata"]["name"] for item in yard.objects(CONFIG_MAPS, "default")]


def owners_of(yard: Yard, name: str) -> list[str]:
    found = yard.object(CONFIG_MAPS, name) or {"metadata": {}}
    return [reference["name"] for reference in found["metadata"].get("ownerReferences") or ()]


def collector(yard: Yard) -> GarbageCollector:
    return GarbageCollector(yard.api, yard.informers, Supervisor())


async def test_dependents_follow_their_owner(yard: Yard) -> None:
    async with yard.running(collector(yard)):
        a = await make(yard, "a")
        b = await make(yard, "b", a)
        await make(yard, "c", b)
        await make(yard, "other")
        await yard.api.delete(CONFIG_MAPS, "a", "default")
        await yard.until(lambda: names(yard) == ["other"])


async def test_what_lost_its_owner_while_nobody_looked_goes_too(yard: Yard) -> None:
    a = await make(yard, "a")
    await make(yard, "b", a)
    await yard.api.delete(CONFIG_MAPS, "a", "default")
    await make(yard, "a")
    assert names(yard) == ["a", "b"]
    async with yard.running(collector(yard)):
        # An owner of the same name is another object.
        await yard.until(lambda: names(yard) == ["a"])


async def test_one_owner_left_is_enough(yard: Yard) -> None:
    async with yard.running(collector(yard)):
        a, b = await make(yard, "a"), await make(yard, "b")
        await make(yard, "c", a, b)
        await yard.api.delete(CONFIG_MAPS, "a", "default")
        await yard.until(lambda: owners_of(yard, "c") == ["b"])
        await yard.api.delete(CONFIG_MAPS, "b", "default")
        await yard.until(lambda: names(yard) == [])


async def test_foreground_takes_the_owner_last(yard: Yard) -> None:
    async with yard.running(collector(yard)):
        a = await make(yard, "a")
        b = await make(yard, "b", a)
        await make(yard, "c", b, finalizers=["example.com/held"])
        await yard.api.delete(CONFIG_MAPS, "a", "default", propagation=Propagation.FOREGROUND)
        await yard.until(lambda: (yard.object(CONFIG_MAPS, "c") or {})["metadata"].get("deletionTimestamp"))
        assert names(yard) == ["a", "b", "c"]
        await yard.api.patch(CONFIG_MAPS, "c", {"metadata": {"finalizers": None}}, "default")
        await yard.until(lambda: names(yard) == [])


async def test_foreground_without_dependents_goes_at_once(yard: Yard) -> None:
    async with yard.running(collector(yard)):
        await make(yard, "a")
        await yard.api.delete(CONFIG_MAPS, "a", "default", propagation=Propagation.FOREGROUND)
        await yard.until(lambda: names(yard) == [])


async def test_a_dependent_that_does_not_block_goes_after_its_owner(yard: Yard) -> None:
    async with yard.running(collector(yard)):
        a = await make(yard, "a")
        b = await make(yard, "b", a, finalizers=["example.com/held"])
        b["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = False
        await yard.api.update(CONFIG_MAPS, b)
        await yard.api.delete(CONFIG_MAPS, "a", "default", propagation=Propagation.FOREGROUND)
        await yard.until(lambda: names(yard) == ["b"])


async def test_orphans_stay_without_an_owner(yard: Yard) -> None:
    async with yard.running(collector(yard)):
        a = await make(yard, "a")
        await make(yard, "b", a)
        await yard.until(lambda: len(yard.informers[CONFIG_MAPS].objects) == 2)
        await yard.api.delete(CONFIG_MAPS, "a", "default", propagation=Propagation.ORPHAN)
        await yard.until(lambda: names(yard) == ["b"])
        assert owners_of(yard, "b") == []


async def test_an_owner_of_a_kind_not_served_keeps_its_dependents(yard: Yard) -> None:
    stranger = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "uid": "w"}}
    async with yard.running(collector(yard)):
        await make(yard, "kept", stranger)
        a = await make(yard, "a")
        await make(yard, "b", a)
        await yard.api.delete(CONFIG_MAPS, "a", "default")
        await yard.until(lambda: names(yard) == ["kept"])


async def test_an_owner_in_another_namespace_is_no_owner(yard: Yard) -> None:
    async with yard.running(collector(yard)):
        elsewhere = await yard.api.create(SECRETS, {"metadata": {"name": "s", "namespace": "kube-system"}})
        await make(yard, "b", elsewhere)
        await yard.until(lambda: names(yard) == [])
