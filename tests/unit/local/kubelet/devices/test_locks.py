import asyncio
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.devices.gpu_locks import GpuLocks, yard_holds
from gpuyard.local.kubelet.devices.manager import DeviceManager
from tests.unit.local.kubelet.devices.conftest import Node, wait_for_devices

GPU = "nvidia.com/gpu"
NOW = datetime(2026, 11, 29, 14, 2, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def locks(folder: Path, home: str = "/ours") -> GpuLocks:
    return GpuLocks(folder, Path(home), lambda: NOW)


async def take(
    manager: DeviceManager, pod: str, count: int, container: str = "c", run: str = ""
) -> list[str]:
    allocation = await manager.allocate(f"uid-{pod}", "ns", pod, container, {GPU: count}, run=run)
    return list(allocation.device_ids[GPU])


def held(folder: Path) -> dict[str, list[str]]:
    found = yard_holds(folder, ["a", "b", "c"])
    return {gpu: [f"{hold.home} {hold.run}" for hold in holds] for gpu, holds in found.items()}


async def test_a_gpu_is_locked_as_long_as_a_container_has_it(node: Node, folder: Path) -> None:
    async with node.manager(locks=locks(folder)) as manager:
        plugin = await node.plugin(GPU, "other.sock", **{"a::0": True, "a::1": True, "b": True})
        await plugin.register()
        await wait_for_devices(manager, 3, 3, GPU)
        assert await take(manager, "p", 1, run="train") == ["a::0"]
        assert await take(manager, "q", 2) == ["a::1", "b"]
        assert held(folder) == {"a": ["/ours train"], "b": ["/ours q"]}
        await manager.release("uid-q")
        # Its other replica is still a run's.
        assert held(folder) == {"a": ["/ours train"]}
        await manager.retain([])
        assert held(folder) == {}
        assert list(folder.iterdir()) == []


async def test_what_another_yard_has_is_not_given_out(node: Node, folder: Path) -> None:
    with closing(locks(folder, "/theirs")) as theirs:
        theirs.take("a", "other")
        async with node.manager(locks=locks(folder)) as manager:
            plugin = await node.plugin(GPU, a=True, b=True, c=True)
            await plugin.register()
            await wait_for_devices(manager, 3, 3, GPU)
            assert await take(manager, "p", 1) == ["b"]
            with pytest.raises(errors.DeviceError) as refused:
                await take(manager, "q", 2)
            assert (
                "needs 2, 1 free (3 known, 2 healthy, 1 of them assigned); GPU a is held by the yard of "
                in (refused.value.message)
            )
            assert "(/theirs), run other, since 2026-11-29 14:02 UTC" in refused.value.message
            # What it could have had is free for everybody.
            assert held(folder).keys() == {"a", "b"}
            theirs.release("a")
            assert await take(manager, "q", 2) == ["a", "c"]


async def test_a_plugin_that_refuses_leaves_nothing_locked(node: Node, folder: Path) -> None:
    async with node.manager(locks=locks(folder)) as manager:
        plugin = await node.plugin(GPU, a=True)
        plugin.refuse = True
        await plugin.register()
        await wait_for_devices(manager, 1, 1, GPU)
        with pytest.raises(errors.DeviceError, match="says no"):
            await take(manager, "p", 1)
        assert held(folder) == {}


class OneFails(GpuLocks):
    """The disk is full when it comes to b."""

    def take(self, gpu: str, run: str) -> None:
        if gpu == "b":
            raise errors.CheckpointError("the disk is full")
        super().take(gpu, run)


async def test_what_was_locked_before_a_lock_fails_is_free_again(node: Node, folder: Path) -> None:
    async with node.manager(locks=OneFails(folder, Path("/ours"), lambda: NOW)) as manager:
        plugin = await node.plugin(GPU, a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2, GPU)
        with pytest.raises(errors.CheckpointError, match="full"):
            await take(manager, "p", 2)
        assert held(folder) == {}


class Slow(GpuLocks):
    """Says when it has begun to take one and when it has it, and waits in between."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Path("/ours"), lambda: NOW)
        self.begun, self.gate, self.has = threading.Event(), threading.Event(), threading.Event()

    def take(self, gpu: str, run: str) -> None:
        self.begun.set()
        self.gate.wait()
        super().take(gpu, run)
        self.has.set()


async def test_a_start_that_is_cancelled_leaves_nothing_locked(node: Node, folder: Path) -> None:
    slow = Slow(folder)
    async with node.manager(locks=slow) as manager:
        plugin = await node.plugin(GPU, a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1, GPU)
        taking = asyncio.create_task(take(manager, "p", 1))
        await asyncio.to_thread(slow.begun.wait)
        for _ in range(3):
            taking.cancel()
            await asyncio.sleep(0)
        slow.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await asyncio.to_thread(slow.has.wait)
        assert held(folder) == {}
        assert await take(manager, "q", 1) == ["a"]


async def test_a_yard_starts_where_nothing_can_be_locked_now(node: Node, folder: Path) -> None:
    async with node.manager(locks=locks(folder)) as manager:
        plugin = await node.plugin(GPU, a=True)
        await plugin.register()
        await wait_for_devices(manager, 1, 1, GPU)
        assert await take(manager, "p", 1) == ["a"]
    async with node.manager(locks=locks(folder / "gone")) as manager:
        again = await node.plugin(GPU, "again.sock", a=True)
        await again.register()
        await wait_for_devices(manager, 1, 1, GPU)
        with pytest.raises(errors.CheckpointError, match="No such file"):
            await take(manager, "p", 1)


async def test_devices_that_are_no_gpus_are_a_yards_own(node: Node, folder: Path) -> None:
    with closing(locks(folder, "/theirs")) as theirs:
        theirs.take("a", "other")
        async with node.manager(locks=locks(folder)) as manager:
            plugin = await node.plugin(a=True)
            await plugin.register()
            await wait_for_devices(manager, 1, 1)
            given = await manager.allocate("u", "ns", "p", "c", {"example.com/other": 1})
            assert given.device_ids == {"example.com/other": ("a",)}


async def test_a_restart_locks_again_what_its_containers_have(node: Node, folder: Path) -> None:
    async with node.manager(locks=locks(folder)) as manager:
        plugin = await node.plugin(GPU, a=True, b=True)
        await plugin.register()
        await wait_for_devices(manager, 2, 2, GPU)
        assert await take(manager, "p", 1) == ["a"]
        assert await take(manager, "q", 1) == ["b"]
    # Nothing of the runs was left to hold the locks, so another yard has one by now.
    with closing(locks(folder, "/theirs")) as theirs:
        theirs.take("b", "other")
        async with node.manager(locks=locks(folder)) as manager:
            again = await node.plugin(GPU, "again.sock", a=True, b=True)
            await again.register()
            await wait_for_devices(manager, 2, 2, GPU)
            assert held(folder) == {"a": ["/ours p"], "b": ["/theirs other"]}
            assert await take(manager, "p", 1) == ["a"]
            with pytest.raises(errors.GpuHeld, match="/theirs"):
                await take(manager, "q", 1)
            theirs.release("b")
            assert await take(manager, "q", 1) == ["b"]
            assert held(folder)["b"] == ["/ours q"]
