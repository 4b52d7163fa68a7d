import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.mig_layout import GpuPlan, parse_layout, plan_layout
from gpuyard.devices.nvml.library import Nvml
from gpuyard.devices.nvml.mig_change import apply_to_driver, driver_geometries, processes_by_device
from gpuyard.gpus.mig_models import mig_geometry

NOWHERE = Path("/nonexistent")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """How the stub's GPUs are split: GPU 1 in two, with an empty GPU instance between."""
    file = tmp_path / "mig"
    file.write_text("on 1\ngi 1 9 4 2 3\ngi 1 19 2 9 0\ngi 1 19 0 7 1\n")
    monkeypatch.setenv("NVML_STUB_MIG", str(file))
    return file


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the driver fails at."""
    monkeypatch.setenv("NVML_STUB_FAULTS", str(tmp_path / "faults"))
    return tmp_path / "faults"


@pytest.fixture
def nvml(nvml_stub: Callable[..., Path], tmp_path: Path, state: Path) -> Iterator[Nvml]:
    """The stub, opened."""
    root = tmp_path / "root"
    shutil.copytree(nvml_stub(), root)
    with closing(Nvml.open(root, NOWHERE, Path("/"), NOWHERE)) as nvml:
        yield nvml


def plans(nvml: Nvml, layout: str) -> tuple[GpuPlan, ...]:
    inventory, h100 = nvml.inventory(), mig_geometry("H100")
    assert h100 is not None
    # Of a GPU without MIG the driver tells nothing.
    geometries = {**{gpu.uuid: h100 for gpu in inventory.devices}, **driver_geometries(inventory)}
    return plan_layout(parse_layout(layout), inventory, {}, geometries)


def parts(inventory: Inventory, index: int) -> list[str]:
    mig = inventory.devices[index].mig
    assert mig is not None
    return [f"{part.profile}@{part.start}" for part in mig.instances] if mig.enabled else ["whole"]


def test_a_plan_is_done(nvml: Nvml) -> None:
    apply_to_driver(plans(nvml, "0: 4g.40gb 2g.20gb 1g.10gb+me; 1: 3g.40gb 2g.20gb 1g.10gb"))
    inventory = nvml.inventory()
    assert sorted(parts(inventory, 0)) == ["1g.10gb+me@6", "2g.20gb@4", "4g.40gb@0"]
    # The empty GPU instance was in the way.
    assert sorted(parts(inventory, 1)) == ["1g.10gb@0", "2g.20gb@2", "3g.40gb@4"]
    assert parts(inventory, 2) == ["whole"]
    apply_to_driver(plans(nvml, "0-1: whole"))
    assert [parts(nvml.inventory(), index) for index in (0, 1)] == [["whole"], ["whole"]]


def test_profiles_that_the_driver_calls_otherwise(nvml: Nvml) -> None:
    """GB300's 7g.278gb is 7g.251gb with newer drivers."""
    (plan,) = plans(nvml, "0: 3g.40gb 1g.10gb+me")
    other_names = tuple(
        replace(new, profile=replace(new.profile, name=new.profile.name.replace("0gb", "1gb")))
        for new in plan.create
    )
    apply_to_driver([replace(plan, create=other_names)])
    assert sorted(parts(nvml.inventory(), 0)) == ["1g.10gb+me@0", "3g.40gb@4"]
    (plan,) = plans(nvml, "2: 3g.40gb")
    (new,) = plan.create
    unknown = replace(new, profile=replace(new.profile, slices=6))
    unknown = replace(unknown, profile=replace(unknown.profile, name="6g.60gb"))
    with pytest.raises(errors.DeviceError, match=r"creating 6g\.60gb@4 failed.*it is as before") as raised:
        apply_to_driver([replace(plan, create=(unknown,))])
    assert "nvidia-smi mig -lgip" in raised.value.remedy


def test_nothing_to_do_asks_nothing(nvml: Nvml, state: Path, faults: Path) -> None:
    before, found = state.read_text(), plans(nvml, "1: 3g.40gb 1g.10gb; 2: whole")
    faults.write_text("* 999\n")
    apply_to_driver(found)
    assert state.read_text() == before


@pytest.mark.parametrize(
    ("function", "code", "doing", "remedy"),
    [
        ("nvmlDeviceSetMigMode", 4, "switching MIG on failed", "run it as root"),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 19, "creating 7g.80gb@0 failed", "fuser"),
        ("nvmlGpuInstanceCreateComputeInstance", 999, "creating 7g.80gb@0 failed", "nvidia-smi mig"),
    ],
)
def test_what_fails_half_way_is_taken_back(
    nvml: Nvml, state: Path, faults: Path, function: str, code: int, doing: str, remedy: str
) -> None:
    before, found = state.read_text(), plans(nvml, "0: 7g.80gb")
    faults.write_text(f"{function} {code}\n")
    with pytest.raises(errors.DeviceError, match=f"GPU 0: {doing}: .*; it is as before") as raised:
        apply_to_driver(found)
    assert remedy in raised.value.remedy
    assert sorted(state.read_text().split("\n")) == sorted(before.split("\n"))


def test_what_was_destroyed_is_made_again(nvml: Nvml, faults: Path) -> None:
    before = parts(nvml.inventory(), 1)
    found = plans(nvml, "1: whole")
    faults.write_text("nvmlDeviceSetMigMode 19\n")
    with pytest.raises(errors.DeviceError, match=r"GPU 1: switching MIG off failed: .*; it is as before"):
        apply_to_driver(found)
    assert sorted(parts(nvml.inventory(), 1)) == sorted(before)


def test_what_cannot_be_taken_back_is_told(nvml: Nvml, faults: Path) -> None:
    found = plans(nvml, "0: whole; 1: 4g.40gb")
    faults.write_text("nvmlDeviceCreateGpuInstanceWithPlacement 999\n")
    with pytest.raises(errors.DeviceError, match=r"couldn't be taken back: .*1g\.10gb@0 is gone") as raised:
        apply_to_driver(found)
    assert raised.value.message.startswith("GPU 1: creating 4g.40gb@0 failed")


def test_those_before_stay_done(nvml: Nvml, state: Path, faults: Path) -> None:
    found = plans(nvml, "0: 7g.80gb; 1: whole")
    faults.write_text("nvmlComputeInstanceDestroy 19\n")
    with pytest.raises(errors.DeviceError, match=r"GPU 1: destroying .* Done before: GPU 0"):
        apply_to_driver(found)
    assert parts(nvml.inventory(), 0) == ["7g.80gb@0"]


def test_a_mode_that_waits_for_a_reset(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_MIG_RESET", "1")
    with pytest.raises(errors.DeviceError, match="GPU 0: MIG is on once the GPU has been reset") as raised:
        apply_to_driver(plans(nvml, "0: 7g.80gb"))
    assert "--gpu-reset" in raised.value.remedy


def test_processes_of_a_driver_that_knows_none(nvml: Nvml, faults: Path) -> None:
    inventory = nvml.inventory()
    assert processes_by_device(inventory) == {}
    faults.write_text("nvmlDeviceGetHandleByUUID 15\n")
    with pytest.raises(errors.DeviceError, match="doesn't say who uses GPU 0"):
        processes_by_device(inventory)
