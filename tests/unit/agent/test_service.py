"""The agent where its files can't be written: the GPUs are served all the same."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard.agent.marks_file import read_marks
from gpuyard.agent.service import run_agent
from gpuyard.devices.inventory import Health, Inventory
from gpuyard.devices.simulated import parse_simulation, simulate
from tests.unit.agent.plugin.conftest import Kubelet
from tests.waiting import until_async

INVENTORY = simulate(parse_simulation("H100:2"), seed="node")
FIRST, SECOND = (gpu.uuid for gpu in INVENTORY.devices)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="gy-"))
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def agent(folder: Path, inventories: asyncio.Queue[Inventory], **files: Path) -> AsyncIterator[Kubelet]:
    kubelet = Kubelet(folder / "plugins")
    await kubelet.start()

    async def follow() -> AsyncIterator[Inventory]:
        while True:
            yield await inventories.get()

    task = asyncio.create_task(run_agent(follow(), kubelet.folder, **files), name="agent")
    try:
        yield kubelet
    finally:
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        await kubelet.stop()
    assert isinstance(result, asyncio.CancelledError), result


async def soon(queue: asyncio.Queue[Any]) -> Any:
    return await asyncio.wait_for(queue.get(), 60)


@pytest.fixture(autouse=True)
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuyard.agent.service._RETRY_S", 0.001)
    monkeypatch.setattr("gpuyard.agent.service._RETRY_MAX_S", 0.01)


async def test_marks_that_can_not_be_written_take_no_gpu_away(folder: Path) -> None:
    marks, inventories = folder / "run" / "marks.json", asyncio.Queue[Inventory]()
    async with agent(folder, inventories, marks_file=marks) as kubelet:
        inventories.put_nowait(INVENTORY)
        assert await soon(kubelet.lists) == {FIRST: "Healthy", SECOND: "Healthy"}
        inventories.put_nowait(INVENTORY.with_health({SECOND: Health("XID 79")}))
        assert await soon(kubelet.lists) == {FIRST: "Healthy", SECOND: "Unhealthy"}
        marks.parent.mkdir()
        assert await until_async(lambda: read_marks(marks), "the marks are written")


async def test_without_its_cdi_spec_a_gpu_is_listed_and_not_handed_over(folder: Path) -> None:
    cdi, inventories = folder / "cdi", asyncio.Queue[Inventory]()
    cdi.write_text("in the way of the folder")
    wish = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=[FIRST])])
    async with agent(folder, inventories, cdi_dir=cdi) as kubelet:
        inventories.put_nowait(INVENTORY)
        assert await soon(kubelet.lists) == {FIRST: "Healthy", SECOND: "Healthy"}
        assert kubelet.plugin is not None
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await kubelet.plugin.Allocate(wish)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert str(cdi) in (refused.value.details() or "")
        cdi.unlink()
        plugin = kubelet.plugin
        given = await until_async(
            lambda: plugin.Allocate(wish), "the GPU is handed over", not_yet=grpc.aio.AioRpcError
        )
        (handed,) = given.container_responses
        assert handed.cdi_devices
