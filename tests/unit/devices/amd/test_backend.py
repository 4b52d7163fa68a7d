"""GPUs that come, go and fall ill, as sysfs shows it."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from gpuyard.devices.amd.backend import AmdBackend
from gpuyard.devices.health import Pace
from gpuyard.devices.inventory import Backend, Inventory
from gpuyard.gpus import faults
from tests.amd_machines import AmdMachine

NODES = "class/kfd/kfd/topology/nodes"
#: Nothing waits for the next look.
AT_ONCE = Pace(quiet_s=0, probe_s=0.01, look_again_s=0.01)
#: The second GPU.
BOARD = "bus/pci/devices/0000:26:00.0"


@pytest.fixture
def machine(tmp_path: Path) -> AmdMachine:
    return AmdMachine("mi300x", tmp_path)


@asynccontextmanager
async def watching(machine: AmdMachine, **options: float) -> AsyncIterator[AsyncIterator[Inventory]]:
    backend = AmdBackend(machine.sys_root, machine.host_root, AT_ONCE, **options)
    async with aclosing(backend.inventories()) as inventories:
        yield inventories


async def until(inventories: AsyncIterator[Inventory], holds: Callable[[Inventory], bool]) -> Inventory:
    async for inventory in inventories:
        if holds(inventory):
            return inventory
    raise AssertionError("it ended")


def reasons(inventory: Inventory) -> dict[int, str]:
    return {gpu.index: gpu.health.reason for gpu in inventory.unhealthy}


async def test_one_that_is_gone_is_lost_and_the_others_keep_their_numbers(machine: AmdMachine) -> None:
    async with watching(machine) as inventories:
        before = await anext(inventories)
        assert not before.unhealthy
        aside = machine.host_root / "aside"
        (machine.sys_root / NODES / "5").rename(aside)
        gone = await until(inventories, lambda now: bool(now.unhealthy))
        assert [gpu.uuid for gpu in gone.devices] == [gpu.uuid for gpu in before.devices]
        assert reasons(gone) == {3: faults.LOST}
        aside.rename(machine.sys_root / NODES / "5")
        back = await until(inventories, lambda now: not now.unhealthy)
        assert back == before


async def test_one_that_is_plugged_in_comes_last(machine: AmdMachine) -> None:
    shutil.move(machine.sys_root / NODES / "2", machine.host_root / "aside")
    async with watching(machine) as inventories:
        before = await anext(inventories)
        assert len(before.devices) == 7
        shutil.move(machine.host_root / "aside", machine.sys_root / NODES / "2")
        after = await until(inventories, lambda now: len(now.devices) == 8)
        assert after.devices[:7] == before.devices
        assert after.devices[7].index == 7
        assert len(after.links) == 28


async def test_a_driver_that_is_unloaded_and_loaded_again(machine: AmdMachine) -> None:
    kfd = machine.sys_root / "class/kfd"
    async with watching(machine) as inventories:
        before = await anext(inventories)
        kfd.rename(machine.host_root / "aside")
        gone = await until(inventories, lambda now: len(now.unhealthy) == 8)
        assert set(reasons(gone).values()) == {faults.DRIVER_GONE}
        (machine.host_root / "aside").rename(kfd)
        assert await until(inventories, lambda now: not now.unhealthy) == before


async def test_a_driver_that_comes_late(machine: AmdMachine) -> None:
    (machine.sys_root / "class/kfd").rename(machine.host_root / "aside")
    async with watching(machine) as inventories:
        assert (await anext(inventories)).backend is Backend.NONE
        (machine.host_root / "aside").rename(machine.sys_root / "class/kfd")
        assert len((await anext(inventories)).devices) == 8


async def test_an_error_that_could_not_be_corrected(machine: AmdMachine) -> None:
    async with watching(machine) as inventories:
        await anext(inventories)
        machine.write(f"{BOARD}/ras/umc_err_count", "ue: 1\nce: 12\nde: 0")
        assert reasons(await until(inventories, lambda now: bool(now.unhealthy))) == {1: faults.RAS}
        await until(inventories, lambda now: not now.unhealthy)


async def test_errors_of_before_and_corrected_ones_are_no_fault(machine: AmdMachine) -> None:
    machine.write(f"{BOARD}/ras/umc_err_count", "ue: 3\nce: 1\nde: 0")
    async with watching(machine) as inventories:
        assert not (await anext(inventories)).unhealthy
        machine.write(f"{BOARD}/ras/umc_err_count", "ue: 3\nce: 99\nde: 0")
        machine.write("bus/pci/devices/0000:46:00.0/ras/gfx_err_count", "ue: 1\nce: 0")
        assert reasons(await anext(inventories)) == {2: faults.RAS}


async def test_a_counter_that_can_not_be_read_for_a_while_is_no_fault(machine: AmdMachine) -> None:
    """During a reset the driver has no counts, and after it those of before."""
    machine.write(f"{BOARD}/ras/umc_err_count", "ue: 3\nce: 1\nde: 0")
    async with watching(machine) as inventories:
        assert not (await anext(inventories)).unhealthy
        for text in ("Query currently inaccessible", "ue: 3\nce: 1\nde: 0"):
            machine.write(f"{BOARD}/ras/umc_err_count", text)
            # Only what changes is shown: another GPU's page shows that all have been looked at.
            bad = "bus/pci/devices/0000:46:00.0/ras/gpu_vram_bad_pages"
            machine.write(bad, "0x2 : 0x1000 : F")
            assert reasons(await anext(inventories)) == {2: faults.BAD_PAGES_FAILED}
            machine.write(bad, "")
            assert reasons(await anext(inventories)) == {}
        machine.write(f"{BOARD}/ras/umc_err_count", "ue: 4\nce: 1\nde: 0")
        assert reasons(await anext(inventories)) == {1: faults.RAS}


async def test_errors_of_reading_leave_all_as_it_is_known(
    machine: AmdMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = AmdBackend(machine.sys_root, machine.host_root, AT_ONCE)
    glob = Path.glob

    def fail(path: Path, pattern: str) -> Iterator[Path]:
        if fails:
            raise OSError(5, os.strerror(5), str(path))
        return glob(path, pattern)

    fails: list[bool] = []
    monkeypatch.setattr(Path, "glob", fail)
    async with aclosing(backend.inventories()) as inventories:
        before = await anext(inventories)
        assert len(await backend.readings()) == len(await backend.processes()) == 8
        fails.append(True)
        failed = await anext(inventories)
        assert (failed.devices, failed.unhealthy) == (before.devices, ())
        assert "Input/output error" in failed.detail
        assert (await backend.readings(), await backend.processes()) == ({}, {})
        fails.clear()
        assert await anext(inventories) == before


async def test_a_page_that_waits_for_a_reset_keeps_a_gpu_ill(machine: AmdMachine) -> None:
    machine.write(f"{BOARD}/ras/gpu_vram_bad_pages", "0x1 : 0x1000 : R\n0x2 : 0x1000 : P")
    async with watching(machine) as inventories:
        assert not (await anext(inventories)).unhealthy
        machine.write(f"{BOARD}/ras/umc_err_count", "ue: 1\nce: 0\nde: 0")
        await until(inventories, lambda now: reasons(now) == {1: faults.BAD_PAGES_PENDING})


async def test_a_page_that_can_not_be_taken_out_of_use(machine: AmdMachine) -> None:
    machine.write(f"{BOARD}/ras/gpu_vram_bad_pages", "0x2 : 0x1000 : F")
    async with watching(machine) as inventories:
        assert reasons(await anext(inventories)) == {1: faults.BAD_PAGES_FAILED}


async def test_a_gpu_that_does_not_answer(machine: AmdMachine) -> None:
    async with watching(machine) as inventories:
        await anext(inventories)
        busy = machine.sys_root / BOARD / "gpu_busy_percent"
        busy.unlink()
        # Its first page can't be read: EIO, as of a GPU that fell off the bus.
        busy.symlink_to("/proc/self/mem")
        assert reasons(await anext(inventories)) == {1: faults.LOST}


async def test_a_device_node_that_goes_away(machine: AmdMachine) -> None:
    async with watching(machine) as inventories:
        await anext(inventories)
        (machine.host_root / "dev/dri/renderD136").unlink()
        assert reasons(await anext(inventories)) == {1: faults.NO_NODE}
        (machine.host_root / "dev/dri/renderD136").touch()
        await until(inventories, lambda now: not now.unhealthy)


async def test_permissions_that_change(machine: AmdMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open everything, so what it may is what this test says."""
    access, closed = os.access, {"renderD136"}
    monkeypatch.setattr(os, "access", lambda path, mode: path.name not in closed and access(path, mode))
    async with watching(machine) as inventories:
        assert reasons(await anext(inventories)) == {1: faults.NO_PERMISSION}
        closed.clear()
        await until(inventories, lambda now: not now.unhealthy)


async def test_a_driver_that_hangs(machine: AmdMachine) -> None:
    busy = machine.sys_root / BOARD / "gpu_busy_percent"
    async with watching(machine, call_limit_s=0.2) as inventories:
        # The first reading itself may take longer on a slow machine.
        before = await until(inventories, lambda now: bool(now.devices) and not now.detail)
        pipe = machine.host_root / "pipe"
        os.mkfifo(pipe)
        pipe.replace(busy)
        hangs = await until(inventories, lambda now: bool(now.detail))
        assert "the AMD driver doesn't answer" in hangs.detail
        assert (hangs.devices, hangs.unhealthy) == (before.devices, ())
        writer = os.open(busy, os.O_WRONLY)
        machine.write("again", "0")
        (machine.sys_root / "again").replace(busy)
        os.close(writer)
        assert await until(inventories, lambda now: not now.detail) == before
