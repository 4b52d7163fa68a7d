"""What changes under an agent that runs: it is found without a start anew."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from gpuyard.devices.health import Pace
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.nvml.backend import NvmlBackend
from gpuyard.devices.nvml.library import Nvml
from gpuyard.devices.nvml.presence import Presence

Stub = Callable[..., Path]


@pytest.fixture
def sys_root(tmp_path: Path) -> Path:
    (tmp_path / "bus/pci/drivers/nvidia").mkdir(parents=True)
    return tmp_path


def bind(sys_root: Path, address: str) -> None:
    (sys_root / "bus/pci/drivers/nvidia" / address).touch()


def lose(folder: Path, *indices: int) -> None:
    (folder / "lost").write_text("".join(f"{index}\n" for index in indices))


def test_what_does_not_answer_is_what_it_was(
    nvml_stub: Stub, sys_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVML_STUB_LOST", str(sys_root / "lost"))
    with closing(Nvml.open(nvml_stub(), sys_root)) as nvml:
        presence = Presence(nvml)
        assert not presence.has_changed()
        lose(sys_root, 2)
        assert not presence.has_changed()
        presence = Presence(nvml)
        lose(sys_root)
        # It can be read only now.
        assert presence.has_changed()


def test_a_gpu_that_the_kernel_gets_needs_a_start_of_nvml(nvml_stub: Stub, sys_root: Path) -> None:
    with closing(Nvml.open(nvml_stub(), sys_root)) as nvml:
        presence = Presence(nvml)
        bind(sys_root, "0000:3e:00.0")
        assert presence.is_stale() and presence.has_changed()


def test_a_node_that_is_made_later_is_read(nvml_stub: Stub, sys_root: Path) -> None:
    node = nvml_stub() / "dev/nvidia-modeset"
    with closing(Nvml.open(nvml_stub(), sys_root)) as nvml:
        presence = Presence(nvml)
        node.touch()
        try:
            assert presence.has_changed() and not presence.is_stale()
        finally:
            node.unlink()


@pytest.fixture
async def inventories(nvml_stub: Stub, sys_root: Path) -> AsyncIterator[AsyncIterator[Inventory]]:
    pace = Pace(quiet_s=0.05, probe_s=0.02, wait_s=0.02, gone_s=0.02, look_again_s=0.05)
    async with aclosing(NvmlBackend(nvml_stub(), sys_root, pace=pace).inventories()) as inventories:
        yield inventories


async def indices(inventories: AsyncIterator[Inventory]) -> list[int]:
    return [gpu.index for gpu in (await anext(inventories)).devices]


async def test_a_gpu_that_is_plugged_in_is_found(
    inventories: AsyncIterator[Inventory], sys_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await indices(inventories) == [0, 1, 2, 3]
    monkeypatch.setenv("NVML_STUB_GPUS", "5")
    assert await indices(inventories) == [0, 1, 2, 3, 4]


async def test_a_gpu_that_is_unplugged_stays_the_nodes_and_is_lost(
    inventories: AsyncIterator[Inventory], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await indices(inventories) == [0, 1, 2, 3]
    monkeypatch.setenv("NVML_STUB_GPUS", "3")
    found = await anext(inventories)
    assert [gpu.health.reason for gpu in found.devices] == ["", "", "", "lost"]
