"""Written through the yard's API, over its own store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.agent.gpu_use.ledger import PodName, PodUse
from gpuyard.agent.gpu_use.use_file import UseRecord, write_use
from gpuyard.agent.gpu_use.writing import UseWriter, write_last
from gpuyard.gpus.use import GpuUse, pod_use
from gpuyard.kube.objects import PODS
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store

NAME = PodName("default", "train-0")
USE = GpuUse(gpus=1, gpu_s=60, energy_gpu_s=60, energy_j=5)


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ObjectApi]:
    store = await Store.open(tmp_path / "store.db", synchronous="OFF")
    made = ObjectApi(store, yard_kinds())
    await made.bootstrap()
    yield made
    await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def make_pod(api: ObjectApi, node: str = "here") -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "i"}]}
    metadata = {"name": NAME.pod, "annotations": {"theirs": "x"}}
    return await api.create(
        PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, NAME.namespace
    )


async def written(api: ObjectApi) -> GpuUse | None:
    return pod_use(await api.get(PODS, NAME.pod, NAME.namespace))


def record(*pods: PodUse, session: str = "a") -> UseRecord:
    return UseRecord(session, "boot", pods)


async def write(writer: UseWriter, api: ObjectApi, now: UseRecord) -> int:
    """How many were due and are written."""
    due = writer.due(now)
    for pod in due:
        await writer.write(api, pod)
    return len(due)


async def test_a_pod_is_written_seldom_and_at_its_end(api: ObjectApi, clock: Clock) -> None:
    await make_pod(api)
    writer = UseWriter("here", every_s=30.0, seconds=clock)
    pod = PodUse(1, NAME, USE)
    assert await write(writer, api, record(replace(pod, use=GpuUse(gpus=1)))) == 0, "nothing used yet"
    assert await write(writer, api, record(pod)) == 1
    assert await written(api) == USE
    more = replace(pod, use=USE.then(USE))
    clock.now_s = 29.0
    assert await write(writer, api, record(more)) == 0
    clock.now_s = 30.0
    assert await write(writer, api, record(more)) == 1
    ended = replace(more, use=more.use.then(USE), has_ended=True)
    assert await write(writer, api, record(ended)) == 1
    assert await write(writer, api, record(ended)) == 0
    assert await written(api) == ended.use


async def test_looking_at_a_pod_does_not_change_it(api: ObjectApi, clock: Clock) -> None:
    before = await make_pod(api)
    await write(UseWriter("here", every_s=0.0, seconds=clock), api, record(PodUse(1, NAME, has_ended=True)))
    assert await api.get(PODS, NAME.pod, NAME.namespace) == before


async def test_sessions_of_agents_add_up(api: ObjectApi, clock: Clock) -> None:
    await make_pod(api)
    for session in ("a", "b", "a"):
        writer = UseWriter("here", every_s=30.0, seconds=clock)
        await write(writer, api, record(PodUse(1, NAME, USE), session=session))
    found = await api.get(PODS, NAME.pod, NAME.namespace)
    assert pod_use(found) == USE.then(USE)
    assert found["metadata"]["annotations"]["theirs"] == "x"


async def test_a_new_pod_of_the_name_gets_nothing_of_the_old_one(api: ObjectApi, clock: Clock) -> None:
    await make_pod(api)
    writer = UseWriter("here", every_s=0.0, seconds=clock)
    await write(writer, api, record(PodUse(1, NAME, USE)))
    await api.delete(PODS, NAME.pod, NAME.namespace, grace_period_s=0)
    await make_pod(api)
    await write(writer, api, record(PodUse(1, NAME, USE.then(USE), has_ended=True)))
    assert await written(api) is None


async def test_pods_of_others_and_pods_that_are_gone_are_left(api: ObjectApi, clock: Clock) -> None:
    writer = UseWriter("here", every_s=0.0, seconds=clock)
    gone = record(PodUse(1, NAME, USE))
    assert await write(writer, api, gone) == 1
    assert await write(writer, api, gone) == 0, "it is gone for good"
    await make_pod(api, node="elsewhere")
    await write(UseWriter("here", every_s=0.0, seconds=clock), api, gone)
    assert await written(api) is None


async def test_the_last_write_has_all(api: ObjectApi, tmp_path: Path) -> None:
    await make_pod(api)
    file = tmp_path / "use.json"
    await write_last(api, "here", file)
    write_use(file, record(PodUse(1, PodName("default", "gone"), USE), PodUse(2, NAME, USE)))
    await write_last(api, "here", file)
    assert await written(api) == USE


async def test_a_file_that_is_wrong_is_said(api: ObjectApi, tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    file.write_text("{")
    with pytest.raises(errors.DeviceError, match=r"use\.json"):
        await write_last(api, "here", file)
