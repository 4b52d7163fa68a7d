"""GPUs of two vendors on one node."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.devices.amd.gpus import read_gpus
from gpuyard.devices.backend import (
    AMD_PCI,
    CombinedBackend,
    LateBackend,
    combine,
    has_display_device,
    load_backend,
)
from gpuyard.devices.inventory import Absence, Backend, DeviceNode, Inventory
from gpuyard.devices.readings import GpuProcess, Reading
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.kube.wellknown import AMD, NVIDIA
from tests.amd_machines import AmdMachine

CONTROL = DeviceNode("/dev/nvidiactl", "/dev/nvidiactl")
NVIDIAS = replace(
    simulate(parse_simulation("L40S:2"), seed="a"),
    backend=Backend.NVML,
    common_nodes=(CONTROL,),
    detail="slow",
)
NONE = Inventory(Backend.NONE, Absence.NO_LIBRARY, "no driver of NVIDIA's")


@pytest.fixture
def amds(tmp_path: Path) -> Inventory:
    machine = AmdMachine("radeon", tmp_path)
    assert has_display_device(machine.sys_root, AMD_PCI)
    return read_gpus(machine.sys_root, tmp_path)


class Scripted:
    """Inventories as they are put in; None ends it by an error."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[Inventory | None] = asyncio.Queue()
        self.ended = False
        self.read: Mapping[str, Reading] = {}
        self.open_by: Mapping[str, tuple[GpuProcess, ...]] = {}

    async def readings(self, held: Collection[str] = ()) -> Mapping[str, Reading]:
        return {uuid: each for uuid, each in self.read.items() if not held or uuid in held}

    async def processes(self) -> Mapping[str, tuple[GpuProcess, ...]]:
        return self.open_by

    async def inventories(self) -> AsyncGenerator[Inventory, None]:
        try:
            while (inventory := await self.coming.get()) is not None:
                yield inventory
            raise errors.DeviceError("it broke")
        finally:
            self.ended = True


def test_indexes_go_on_and_each_vendor_keeps_its_own(amds: Inventory) -> None:
    both = combine([NVIDIAS, amds])
    assert [(gpu.index, gpu.vendor) for gpu in both.devices] == [(0, NVIDIA), (1, NVIDIA), (2, AMD)]
    assert (both.backend, both.driver_version) == (Backend.NVML, NVIDIAS.driver_version)
    assert both.common_nodes == ()
    assert [CONTROL in gpu.nodes for gpu in both.devices] == [True, True, False]
    assert both.links == NVIDIAS.links
    assert both.detail == "slow"


def test_one_vendor_alone_is_as_it_was(amds: Inventory) -> None:
    assert combine([NONE, amds]) is amds
    assert combine([NVIDIAS, NONE]) is NVIDIAS


def test_beside_gpus_it_is_told_whose_cant_be_looked_at(amds: Inventory) -> None:
    broken = Inventory(Backend.NONE, Absence.FAILED, "acme.py is gone")
    assert combine([amds, NONE, broken]) == replace(amds, detail="acme.py is gone")
    assert combine([NVIDIAS, amds, broken]).detail == "slow; acme.py is gone"


async def test_a_file_that_is_gone_is_said_once_and_loaded_when_it_is_back(
    amds: Inventory, caplog: pytest.LogCaptureFixture
) -> None:
    acme, tries = Scripted(), 0

    def load() -> Scripted:
        nonlocal tries
        tries += 1
        if tries < 5:
            raise errors.UsageError("acme.py can't be loaded", remedy="name it")
        return acme

    late = LateBackend(load, look_again_s=0.001)
    acme.coming.put_nowait(amds)
    acme.read = {"GPU-2": Reading()}
    async with aclosing(late.inventories()) as found:
        first = await anext(found)
        assert (first.absence, first.detail) == (Absence.FAILED, "acme.py can't be loaded; name it")
        assert not await late.readings() and not await late.processes()
        assert await anext(found) is amds
    assert (tries, await late.readings(), acme.ended) == (5, acme.read, True)
    assert [each.message for each in caplog.records] == [first.detail]


def test_without_gpus_everybody_says_why() -> None:
    other = Inventory(Backend.NONE, Absence.NO_DRIVER, "amdgpu isn't loaded")
    assert combine([NONE, other]) == replace(NONE, detail="no driver of NVIDIA's; amdgpu isn't loaded")


async def test_readings_are_everybodys() -> None:
    one, other = Scripted(), Scripted()
    one.read, other.read = {"GPU-1": Reading(power_w=1.5)}, {"GPU-2": Reading()}
    one.open_by, other.open_by = {"GPU-1": (GpuProcess(7, 1, "compute"),)}, {"GPU-2": ()}
    both = CombinedBackend(one, other)
    assert await both.readings() == {"GPU-1": Reading(power_w=1.5), "GPU-2": Reading()}
    assert await both.readings(["GPU-2"]) == {"GPU-2": Reading()}
    assert await both.processes() == {**one.open_by, **other.open_by}


async def test_who_hangs_holds_up_nobody(amds: Inventory) -> None:
    nvidia, amd = Scripted(), Scripted()
    async with aclosing(CombinedBackend(nvidia, amd).inventories()) as inventories:
        amd.coming.put_nowait(amds)
        assert await anext(inventories) == amds
        nvidia.coming.put_nowait(NVIDIAS)
        assert await anext(inventories) == combine([NVIDIAS, amds])
    assert nvidia.ended and amd.ended


async def test_none_is_said_when_all_have_looked() -> None:
    nvidia, amd = Scripted(), Scripted()
    async with aclosing(CombinedBackend(nvidia, amd).inventories()) as inventories:
        nvidia.coming.put_nowait(NONE)
        first = asyncio.ensure_future(anext(inventories))
        amd.coming.put_nowait(NONE)
        assert not (await first).devices


async def test_an_error_of_one_is_an_error_of_all() -> None:
    nvidia, amd = Scripted(), Scripted()
    async with aclosing(CombinedBackend(nvidia, amd).inventories()) as inventories:
        amd.coming.put_nowait(None)
        with pytest.raises(errors.DeviceError, match="it broke"):
            await anext(inventories)
    assert nvidia.ended


def test_another_vendors_gpu_is_none_of_ours(tmp_path: Path) -> None:
    device = tmp_path / "bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "class").write_text("0x040300\n")  # Its sound.
    assert not has_display_device(tmp_path, AMD_PCI)
    (device / "class").write_text("0x120000\n")
    assert has_display_device(tmp_path, AMD_PCI)


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        ("acme_nowhere", "No module named"),
        ("", "Empty module name"),
        (".acme", "relative"),
        ("acme_torn", "invalid syntax"),
        ("/nowhere/acme.py", "No such file"),
        ("acme_empty", "no function open_backend"),
    ],
)
def test_a_module_that_opens_no_backend_is_named(
    module: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_torn.py").write_text("def\n")
    (tmp_path / "acme_empty.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(errors.UsageError, match=problem) as raised:
        load_backend(module, host_root=tmp_path)
    assert repr(module) in raised.value.message and "PYTHONPATH" in raised.value.remedy
