import asyncio
import shutil
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from gpuyard.devices.health import Pace
from gpuyard.devices.inventory import Absence, DeviceNode, Inventory, Mig
from gpuyard.devices.nvml.backend import NvmlBackend
from gpuyard.devices.nvml.library import Nvml
from gpuyard.devices.nvml.mig import driver_geometry
from gpuyard.gpus.mig_models import mig_geometry
from gpuyard.gpus.mig_profiles import MigEngines

Stub = Callable[..., Path]
NOWHERE = Path("/nonexistent")
#: GPU 1: a 3g.40gb at slice 4 and a 1g.10gb+me at slice 0; GPU 2: one compute instance of two slices.
LAYOUT = "on 1\non 2\ngi 1 9 4 2 3\ngi 1 20 0 7 1\ngi 2 9 0 1 2\ngi 2 19 6 13 0\n"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """How the stub's GPUs are split."""
    file = tmp_path / "mig"
    file.write_text(LAYOUT)
    monkeypatch.setenv("NVML_STUB_MIG", str(file))
    return file


@pytest.fixture
def root(nvml_stub: Stub, tmp_path: Path) -> Path:
    """A driver with the nodes of GPU 1's instances."""
    root = tmp_path / "root"
    shutil.copytree(nvml_stub(), root)
    (root / "dev/nvidia-caps").mkdir()
    proc = tmp_path / "proc/driver/nvidia/capabilities/gpu1/mig"
    for number, place in enumerate(("gi2", "gi2/ci0", "gi7", "gi7/ci0"), 3):
        (proc / place).mkdir(parents=True, exist_ok=True)
        (proc / place / "access").write_text(f"DeviceFileMinor: {number}\nDeviceFileMode: 292\n")
        (root / f"dev/nvidia-caps/nvidia-cap{number}").touch()
    return root


def read(root: Path, proc: Path = NOWHERE) -> Inventory:
    with closing(Nvml.open(root, NOWHERE, Path("/"), proc)) as nvml:
        return nvml.inventory()


def mig_of(inventory: Inventory, index: int) -> Mig:
    mig = inventory.devices[index].mig
    assert mig is not None
    return mig


def test_parts_as_the_driver_describes_them(layout: Path, root: Path, tmp_path: Path) -> None:
    inventory = read(root, tmp_path / "proc")
    assert mig_of(inventory, 0) == Mig()
    mig = mig_of(inventory, 1)
    assert (mig.enabled, mig.pending) == (True, True)
    three, one = mig.instances
    assert (three.index, three.profile, three.gi_id, three.ci_id) == (0, "3g.40gb", 2, 0)
    assert (three.start, three.size, three.gi_slices, three.ci_slices) == (4, 4, 3, 3)
    assert (three.memory_mib, three.multiprocessors) == (40448, 60)
    assert three.engines == MigEngines(copy=3, decoder=3, jpeg=3)
    assert (one.index, one.profile, one.uuid) == (1, "1g.10gb+me", "MIG-00000000-0000-0000-0000-000001000007")
    caps = str(root / "dev/nvidia-caps")
    assert three.nodes == (
        DeviceNode("/dev/nvidia-caps/nvidia-cap3", f"{caps}/nvidia-cap3"),
        DeviceNode("/dev/nvidia-caps/nvidia-cap4", f"{caps}/nvidia-cap4"),
    )
    assert [node.path for node in one.nodes] == [
        "/dev/nvidia-caps/nvidia-cap5",
        "/dev/nvidia-caps/nvidia-cap6",
    ]


def test_a_part_of_a_gpu_instance(layout: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (part,) = mig_of(read(root), 2).instances
    assert (part.profile, part.gi_slices, part.ci_slices, part.multiprocessors) == ("2c.3g.40gb", 3, 2, 40)
    assert part.nodes == ()
    assert f"2c.3g.40gb ({part.uuid}) of GPU 2 lacks device nodes in /dev/nvidia-caps" in caplog.text


def test_a_driver_that_says_less(layout: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What only root may ask.
    faults = layout.with_name("faults")
    faults.write_text("nvmlDeviceGetGpuInstanceById 4\n")
    monkeypatch.setenv("NVML_STUB_FAULTS", str(faults))
    three, _ = mig_of(read(root), 1).instances
    assert (three.profile, three.start, three.size) == ("3g.40gb", -1, 0)
    faults.write_text("nvmlDeviceGetName 3\nnvmlDeviceGetAttributes_v2 3\n")
    assert [part.gi_id for part in mig_of(read(root), 1).instances] == [2, 7]


def test_names_that_the_driver_doesnt_tell(layout: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = layout.with_name("faults")
    faults.write_text("nvmlDeviceGetName 3\n")
    monkeypatch.setenv("NVML_STUB_FAULTS", str(faults))
    named = [[part.profile for part in mig_of(read(root), index).instances] for index in (1, 2)]
    assert named == [["3g.40gb", "1g.10gb+me"], ["2c.3g.40gb"]]
    monkeypatch.setenv("NVML_STUB_MIG_NAMELESS", "1")
    assert [[part.profile for part in mig_of(read(root), index).instances] for index in (1, 2)] == named


def test_gpus_that_cannot_be_split(root: Path) -> None:
    assert {gpu.mig for gpu in read(root).devices} == {None}


@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetGpuInstanceId",
        "nvmlDeviceGetComputeInstanceId",
        "nvmlDeviceGetMaxMigDeviceCount",
    ],
)
def test_a_gpu_of_which_it_isnt_known_is_never_given_out_whole(
    layout: Path, root: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    faults = layout.with_name("faults")
    faults.write_text(f"{function} 999\n")
    monkeypatch.setenv("NVML_STUB_FAULTS", str(faults))
    with closing(Nvml.open(root, NOWHERE, Path("/"), NOWHERE)) as nvml:
        found = [gpu.index for gpu in nvml.inventory().devices]
        assert 1 not in found
        assert 2 not in found
        assert not nvml.complete
        faults.write_text("")
        assert [gpu.index for gpu in nvml.inventory().devices] == [0, 1, 2, 3]


def test_a_node_of_which_no_gpu_can_be_read_says_so(
    layout: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = layout.with_name("faults")
    faults.write_text("nvmlDeviceGetMigMode 999\n")
    monkeypatch.setenv("NVML_STUB_FAULTS", str(faults))
    inventory = read(root)
    assert (inventory.devices, inventory.absence) == ((), Absence.FAILED)
    assert "no GPU can be read: GPU 0 is left out, how it is split isn't known" in inventory.detail


async def test_a_change_is_seen_without_a_restart(layout: Path, root: Path, tmp_path: Path) -> None:
    backend = NvmlBackend(root, NOWHERE, pace=Pace(probe_s=0.05, wait_s=0.05))
    async with aclosing(backend.inventories()) as inventories:
        inventory = await anext(inventories)
        assert len(mig_of(inventory, 1).instances) == 2
        layout.write_text("on 1\ngi 1 9 4 2 3\n")
        inventory = await asyncio.wait_for(anext(inventories), 60)
        assert [part.profile for part in mig_of(inventory, 1).instances] == ["3g.40gb"]
        assert not mig_of(inventory, 2).enabled


async def test_a_change_that_leaves_the_ids_alone_is_seen(layout: Path, root: Path) -> None:
    backend = NvmlBackend(root, NOWHERE, pace=Pace(probe_s=0.05, wait_s=0.05, look_again_s=3600))
    replace_text(layout, "on 1\ngi 1 9 4 2 3\n")
    async with aclosing(backend.inventories()) as inventories:
        before = mig_of(await anext(inventories), 1)
        for text, places in (("gi 1 14 0 2 2", [("2g.20gb", 0)]), ("gi 1 14 2 2 2", [("2g.20gb", 2)])):
            replace_text(layout, f"on 1\n{text}\n")
            mig = mig_of(await asyncio.wait_for(anext(inventories), 60), 1)
            assert [(part.profile, part.start) for part in mig.instances] == places
            assert mig.instances[0].uuid == before.instances[0].uuid
        replace_text(layout, "on 1\nflips 1\ngi 1 14 2 2 2\n")
        mig = mig_of(await asyncio.wait_for(anext(inventories), 60), 1)
        assert (mig.enabled, mig.pending) == (True, False)


def replace_text(file: Path, text: str) -> None:
    """At once: the stub may read it at any time."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def test_what_the_driver_says_a_gpu_can_be_split_into(layout: Path, root: Path) -> None:
    import pynvml

    with closing(Nvml.open(root, NOWHERE, Path("/"), NOWHERE)):
        found = driver_geometry(pynvml.nvmlDeviceGetHandleByIndex(1), 81559)
    known = mig_geometry("H100")
    assert found is not None
    assert known is not None
    assert found.names == known.names
    for profile in known.profiles:
        told = found.find(profile.name)
        assert told is not None
        assert (told.starts, told.size, told.slices, told.most, told.engines) == (
            profile.starts, profile.size, profile.slices, profile.most, profile.engines,
        )  # fmt: skip
