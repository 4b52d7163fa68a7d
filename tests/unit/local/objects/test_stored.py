from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from gpuyard.kube.objects import CONFIG_MAPS, NODES, ObjectKey
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.stored import find_fault
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store

_METADATA = {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "1"}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"", "it is no JSON"),
        (b"{", "it is no JSON"),
        (b'{"a": "\\ud800"}', "it is no JSON"),
        (b"[]", "it has no metadata"),
        (b'{"metadata": 5}', "it has no metadata"),
        (orjson.dumps({"metadata": {**_METADATA, "name": ["a"]}}), "its metadata names another object"),
        (orjson.dumps({"metadata": {**_METADATA, "uid": "../.."}}), "its metadata.uid is no name"),
        (orjson.dumps({"metadata": {**_METADATA, "resourceVersion": 1}}), "its metadata.resourceVersion"),
    ],
)
async def test_a_row_that_can_not_be_read_is_set_aside_and_its_name_is_free(
    tmp_path: Path, value: bytes, fault: str
) -> None:
    path = tmp_path / "yard.db"
    store = await Store.open(path, synchronous="OFF", find_fault=find_fault)
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    for name in ("a", "b"):
        await api.create(CONFIG_MAPS, {"metadata": {"name": name, "namespace": "default"}})
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE objects SET value = ? WHERE resource = 'configmaps' AND name = 'a'", (value,)
        )
    for _ in range(2):
        store = await Store.open(path, synchronous="OFF", find_fault=find_fault)
        (found,) = await store.faults()
        assert (found.resource, found.name) == ("configmaps", "a")
        assert found.fault.startswith(fault)
        api = ObjectApi(store, yard_kinds())
        assert store.get("configmaps", ObjectKey("default", "b")) is not None
        if store.get("configmaps", ObjectKey("default", "a")) is None:
            await api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
        names = [item["metadata"]["name"] for item in (await api.list(CONFIG_MAPS)).items]
        assert names == ["a", "b"]
        await store.close()


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "ready"},
        {"status": {"conditions": ["Ready"]}},
        {"spec": []},
        {"metadata": {"labels": ["a"]}},
    ],
)
async def test_a_node_that_its_kubelet_could_not_read_is_set_aside(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    path = tmp_path / "yard.db"
    store = await Store.open(path, synchronous="OFF", find_fault=find_fault)
    api = ObjectApi(store, yard_kinds())
    node = await api.create(NODES, {"metadata": {"name": "here"}})
    await store.close()
    odd = {**node, **odd, "metadata": {**node["metadata"], **odd.get("metadata", {})}}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE objects SET value = ? WHERE resource = 'nodes'", (orjson.dumps(odd),))
    store = await Store.open(path, synchronous="OFF", find_fault=find_fault)
    try:
        assert ["Node in version" in fault.fault for fault in await store.faults()] == [True]
        await ObjectApi(store, yard_kinds()).create(NODES, {"metadata": {"name": "here"}})
    finally:
        await store.close()
