"""Watches in process: order, selectors, the end of history."""

from __future__ import annotations

import asyncio

import pytest

from gpuyard import errors
from gpuyard.client.api import WatchEvent
from gpuyard.kube.objects import CONFIG_MAPS, Manifest
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store


def config_map(name: str, namespace: str = "default", **labels: str) -> Manifest:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}}


async def seen(
    api: ObjectApi, count: int, after: int, namespace: str | None = None, label: str = "", field: str = ""
) -> list[tuple[str, str, dict[str, str] | None]]:
    """The next events: type, name, labels."""
    events: list[WatchEvent] = []
    stream = api.watch(
        CONFIG_MAPS, namespace, resource_version=str(after), label_selector=label, field_selector=field
    )
    async with asyncio.timeout(60):
        async for event in stream:
            events.append(event)
            if len(events) == count:
                break
    return [(e.type, e.object["metadata"]["name"], e.object["metadata"].get("labels")) for e in events]


async def test_every_change_in_order_with_its_version(api: ObjectApi) -> None:
    start = api.store.revision
    await api.create(CONFIG_MAPS, config_map("a"))
    await api.patch(CONFIG_MAPS, "a", {"data": {"k": "v"}}, "default")
    await api.delete(CONFIG_MAPS, "a", "default")
    versions = []
    async for event in api.watch(CONFIG_MAPS, resource_version=str(start)):
        versions.append(
            (event.type, int(event.object["metadata"]["resourceVersion"]), event.object.get("data"))
        )
        if event.type == "DELETED":
            break
    assert versions == [
        ("ADDED", start + 1, None),
        ("MODIFIED", start + 2, {"k": "v"}),
        ("DELETED", start + 3, {"k": "v"}),
    ]


async def test_an_object_comes_and_goes_with_its_labels(api: ObjectApi) -> None:
    start = api.store.revision
    await api.create(CONFIG_MAPS, config_map("a", colour="blue"))
    for colour in ("red", "red", "blue", "green", "red"):
        labels = {"metadata": {"labels": {"colour": colour, "turn": str(api.store.revision)}}}
        await api.patch(CONFIG_MAPS, "a", labels, "default")
    await api.delete(CONFIG_MAPS, "a", "default")
    events = await seen(api, 5, start, label="colour=red")
    assert [type_ for type_, *_ in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert {(labels or {})["colour"] for *_, labels in events} == {"red"}, "a DELETED shows the last match"


async def test_a_delete_by_selector_carries_the_version_of_the_change(api: ObjectApi) -> None:
    made = await api.create(CONFIG_MAPS, config_map("a", colour="red"))
    start = api.store.revision
    changed = await api.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"colour": "blue"}}}, "default")
    async for event in api.watch(CONFIG_MAPS, resource_version=str(start), label_selector="colour=red"):
        assert event.type == "DELETED"
        assert event.object["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
        assert event.object["metadata"]["uid"] == made["metadata"]["uid"]
        break


async def test_a_watch_sees_its_namespace_and_fields_only(api: ObjectApi) -> None:
    start = api.store.revision
    for namespace in ("kube-system", "default"):
        for name in ("a", "b"):
            await api.create(CONFIG_MAPS, config_map(name, namespace))
    assert [name for _, name, _ in await seen(api, 2, start, "default")] == ["a", "b"]
    assert len(await seen(api, 2, start, field="metadata.name=b")) == 2


async def test_a_watch_waits_for_what_comes(api: ObjectApi) -> None:
    waiting = asyncio.create_task(seen(api, 1, api.store.revision))
    await asyncio.sleep(0)
    await api.create(CONFIG_MAPS, config_map("later"))
    assert await waiting == [("ADDED", "later", None)]


async def test_a_version_outside_of_history_is_gone(store: Store, api: ObjectApi) -> None:
    for number in range(205):
        await api.create(CONFIG_MAPS, config_map(f"a{number}"))
    for version in (1, store.revision + 1):
        with pytest.raises(errors.Gone, match="resource version"):
            await seen(api, 1, version)
    with pytest.raises(errors.BadRequest, match="invalid resource version"):
        await anext(aiter(api.watch(CONFIG_MAPS, resource_version="abc")))


async def test_the_end_of_the_store_ends_a_watch_with_a_refusal(store: Store, api: ObjectApi) -> None:
    waiting = asyncio.create_task(seen(api, 1, api.store.revision))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(errors.ServiceUnavailable, match="the yard is stopping"):
        await waiting
