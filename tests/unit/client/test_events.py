from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuyard.client.events import EventRecorder
from gpuyard.kube.objects import EVENTS, NAMESPACES, NODES, Manifest
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store

POD: Manifest = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"namespace": "default", "name": "train-0", "uid": "u1", "resourceVersion": "7"},
}


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ObjectApi]:
    store = await Store.open(tmp_path / "store.db", synchronous="OFF")
    api = ObjectApi(store, yard_kinds())
    await api.create(NAMESPACES, {"metadata": {"name": "default"}})
    yield api
    await store.close()


@pytest.fixture
def recorder(api: ObjectApi) -> EventRecorder:
    return EventRecorder(api, "kubelet", Clock(), host="n1")


async def events(api: ObjectApi) -> list[Manifest]:
    return list((await api.list(EVENTS)).items)


async def test_writes_an_event(api: ObjectApi, recorder: EventRecorder) -> None:
    await recorder.record(POD, "Warning", "Failed", "no such file: train.py")
    (event,) = await events(api)
    del event["metadata"]["uid"], event["metadata"]["creationTimestamp"], event["metadata"]["resourceVersion"]
    name = event["metadata"].pop("name")
    assert name.startswith("train-0.")
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "default"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "default",
            "name": "train-0",
            "uid": "u1",
            "resourceVersion": "7",
        },
        "type": "Warning",
        "reason": "Failed",
        "message": "no such file: train.py",
        "count": 1,
        "firstTimestamp": "2026-01-31T12:00:01Z",
        "lastTimestamp": "2026-01-31T12:00:01Z",
        "eventTime": None,
        "source": {"component": "kubelet", "host": "n1"},
        "reportingComponent": "kubelet",
        "reportingInstance": "n1",
    }


async def test_counts_what_is_said_again(api: ObjectApi, recorder: EventRecorder) -> None:
    for _ in range(3):
        await recorder.record(POD, "Normal", "Pulled", "there")
    (event,) = await events(api)
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-31T12:00:01Z"
    assert event["lastTimestamp"] == "2026-01-31T12:00:03Z"


async def test_goes_on_counting_after_a_restart(api: ObjectApi, recorder: EventRecorder) -> None:
    await recorder.record(POD, "Normal", "Pulled", "there")
    await EventRecorder(api, "kubelet", Clock(), host="n1").record(POD, "Normal", "Pulled", "there")
    assert [event["count"] for event in await events(api)] == [2]


async def test_what_differs_is_another_event(api: ObjectApi, recorder: EventRecorder) -> None:
    await recorder.record(POD, "Normal", "Pulled", "there")
    await recorder.record(POD, "Normal", "Pulled", "here")
    await recorder.record(POD, "Normal", "Started", "there")
    again = {**POD, "metadata": {**POD["metadata"], "uid": "u2"}}
    await recorder.record(again, "Normal", "Pulled", "there")
    await EventRecorder(api, "scheduler", Clock()).record(POD, "Normal", "Pulled", "there")
    assert [event["count"] for event in await events(api)] == [1] * 5


async def test_several_at_once_lose_no_event(api: ObjectApi, recorder: EventRecorder) -> None:
    await asyncio.gather(*(recorder.record(POD, "Normal", "Pulled", str(n % 2)) for n in range(4)))
    assert [event["count"] for event in await events(api)] == [2, 2]


async def test_events_of_nodes_are_in_default(api: ObjectApi, recorder: EventRecorder) -> None:
    node = await api.create(NODES, {"metadata": {"name": "n1"}})
    await recorder.record(node, "Normal", "NodeReady", "ready")
    (event,) = await events(api)
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]


@pytest.mark.parametrize("name", ["a" * 253, "a" * 235 + "." + "b" * 17])
async def test_a_long_name_still_gives_a_name(api: ObjectApi, recorder: EventRecorder, name: str) -> None:
    await recorder.record({**POD, "metadata": {**POD["metadata"], "name": name}}, "Normal", "Pulled", "x")
    assert len(await events(api)) == 1


async def test_an_event_that_cannot_be_written_is_logged(
    api: ObjectApi, recorder: EventRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    gone = {**POD, "metadata": {**POD["metadata"], "namespace": "gone"}}
    with caplog.at_level(logging.INFO, logger="gpuyard.client.events"):
        await recorder.record(gone, "Normal", "Pulled", "there")
    assert await events(api) == []
    assert 'event Pulled for Pod train-0 not written: namespaces "gone" not found' in caplog.text
