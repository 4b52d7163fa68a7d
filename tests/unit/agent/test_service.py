"""The agent where its files can't be written: the GPUs are served all the same."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard.agent import service
from gpuyard.agent.cdi_file import CdiFile
from gpuyard.agent.marks_file import NodeMarks, read_marks
from gpuyard.agent.options.device_lists import Handover, suitable_lists
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.service import run_agent
from gpuyard.devices.inventory import Absence, Backend, Health, Inventory
from gpuyard.devices.nvml.driver_files import DriverFile, find_driver_files
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.cdi import SPEC_FILE, node_cdi_faults
from gpuyard.gpus.exposure import Exposure
from tests.fake_driver import VERSION, install
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
async def agent(
    folder: Path,
    inventories: asyncio.Queue[Inventory],
    *,
    cdi_dir: Path | None = None,
    marks_file: Path | None = None,
    find_exposure: Callable[[], Exposure] = Exposure,
    find_driver: Callable[[str], Sequence[DriverFile]] | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> AsyncIterator[Kubelet]:
    kubelet = Kubelet(folder / "plugins")
    await kubelet.start()

    async def follow() -> AsyncIterator[Inventory]:
        while True:
            yield await inventories.get()

    cdi = CdiFile(cdi_dir, lambda: datetime.now(UTC)) if cdi_dir else None
    sockets = OwnSockets(kubelet.folder)
    work = run_agent(
        follow(),
        kubelet.folder,
        sockets,
        handover=Handover(suitable_lists(has_cdi=cdi is not None, mounts_name_devices=False)),
        cdi=cdi,
        marks_file=marks_file,
        find_exposure=find_exposure,
        find_driver=find_driver,
        on_ready=on_ready,
    )
    task = asyncio.create_task(work, name="agent")
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
    monkeypatch.setattr("gpuyard.agent.service._LOOK_S", 0.001)


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


async def test_a_spec_that_something_deletes_comes_back_and_the_node_is_told(folder: Path) -> None:
    cdi, marks, inventories = folder / "cdi", folder / "marks.json", asyncio.Queue[Inventory]()
    async with agent(folder, inventories, cdi_dir=cdi, marks_file=marks) as kubelet:
        inventories.put_nowait(INVENTORY)
        await soon(kubelet.registered)
        (cdi / SPEC_FILE).unlink()
        await until_async((cdi / SPEC_FILE).exists, "the spec is back")
        await until_async(lambda: told(marks) == ["rewritten"], "the node is told")
        (cdi / "copy.json").write_bytes((cdi / SPEC_FILE).read_bytes())
        await until_async(lambda: told(marks) == ["duplicate", "rewritten"], "the node is told of the copy")
        (cdi / "copy.json").unlink()
        await until_async(lambda: told(marks) == ["rewritten"], "the node is told that it is gone")


def told(file: Path) -> list[str]:
    marks = read_marks(file) or NodeMarks()
    node = {"metadata": {"name": "here", "annotations": dict(marks.annotations)}}
    return [str(fault.trouble) for fault in node_cdi_faults(node)]


async def test_the_files_are_the_next_agents_once_it_has_come(folder: Path) -> None:
    cdi, marks, inventories = folder / "cdi", folder / "marks.json", asyncio.Queue[Inventory]()
    async with agent(folder, inventories, cdi_dir=cdi, marks_file=marks) as kubelet:
        inventories.put_nowait(INVENTORY)
        await soon(kubelet.registered)
        its = OwnSockets(kubelet.folder).new()
        its.touch()
        (cdi / SPEC_FILE).write_text("of the next agent")
        marks.unlink()
        # What it serves goes on.
        inventories.put_nowait(INVENTORY.with_health({SECOND: Health("XID 79")}))
        while (await soon(kubelet.lists))[SECOND] != "Unhealthy":
            pass
        assert (cdi / SPEC_FILE).read_text() == "of the next agent" and not marks.exists()
        its.unlink()
        await until_async(lambda: read_marks(marks), "the marks are this one's again")
        assert SECOND in (cdi / SPEC_FILE).read_text()


async def test_is_ready_once_the_kubelet_knows_it_and_where_there_is_nothing_to_know(folder: Path) -> None:
    ready, inventories = asyncio.Event(), asyncio.Queue[Inventory]()
    async with agent(folder, inventories, on_ready=ready.set) as kubelet:
        kubelet.refusals = 1
        inventories.put_nowait(INVENTORY)
        await soon(kubelet.registered)
        await asyncio.wait_for(ready.wait(), 60)
    ready.clear()
    async with agent(folder, inventories, on_ready=ready.set):
        inventories.put_nowait(Inventory(Backend.NONE, absence=Absence.NO_DRIVER))
        await asyncio.wait_for(ready.wait(), 60)


async def test_what_the_nodes_runtime_is_told_is_looked_at_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_LOOKS_PER_EXPOSURE", 1)
    file, inventories = folder / "marks.json", asyncio.Queue[Inventory]()
    told = [Exposure(default_runtime=True)]

    def said() -> str:
        marks = read_marks(file)
        return marks.annotations["gpuyard.io/gpu-exposure"] if marks else ""

    inventories.put_nowait(INVENTORY)
    async with agent(folder, inventories, marks_file=file, find_exposure=lambda: told[-1]):
        await until_async(lambda: said() == "default-runtime=yes", "it is written")
        told.append(Exposure(default_runtime=False))
        await until_async(lambda: said() == "default-runtime=no", "it is written again")


def _libcuda(cdi: Path) -> str:
    """Where the spec takes libcuda.so.1 from; empty for nowhere."""
    mounts = json.loads((cdi / SPEC_FILE).read_text())["containerEdits"].get("mounts") or ()
    found: dict[str, str] = {mount["containerPath"]: mount["hostPath"] for mount in mounts}
    return found.get("/usr/lib64/libcuda.so.1", "")


async def test_the_spec_follows_the_drivers_files(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cdi, root, inventories = folder / "cdi", folder / "root", asyncio.Queue[Inventory]()
    find_driver = partial(find_driver_files, root)
    real = replace(INVENTORY, backend=Backend.NVML, driver_version=VERSION)
    async with agent(folder, inventories, cdi_dir=cdi, find_driver=find_driver) as kubelet:
        inventories.put_nowait(real)
        # GPUs without the driver's files are served: processes of the host need none.
        assert await soon(kubelet.lists) == {FIRST: "Healthy", SECOND: "Healthy"}
        assert _libcuda(cdi) == ""
        assert f"no library of the NVIDIA driver {VERSION} is found" in caplog.text
        libraries = install(root)
        await until_async(lambda: _libcuda(cdi), "the driver's files are in the spec")
        assert _libcuda(cdi) == str(libraries / f"libcuda.so.{VERSION}")
        install(root, "580.65.06")
        inventories.put_nowait(replace(real, driver_version="580.65.06"))
        await until_async(lambda: "580" in _libcuda(cdi), "the next driver's files are")
        shutil.rmtree(root)
        await until_async(lambda: not _libcuda(cdi), "nothing is mounted that isn't there")


async def test_simulated_gpus_have_no_driver(folder: Path) -> None:
    cdi, inventories = folder / "cdi", asyncio.Queue[Inventory]()

    def find_driver(version: str) -> Sequence[DriverFile]:
        return [DriverFile("/libcuda", "/usr/lib64/libcuda.so.1")]

    async with agent(folder, inventories, cdi_dir=cdi, find_driver=find_driver) as kubelet:
        inventories.put_nowait(INVENTORY)
        await soon(kubelet.lists)
        assert _libcuda(cdi) == ""
