import os
from pathlib import Path

import pytest

from gpuyard.devices.amd.kfd import KfdGpu, read_topology
from tests.amd_machines import AmdMachine


def test_place_and_target() -> None:
    gpu = KfdGpu(1, {"location_id": 0x050B, "domain": 1, "gfx_target_version": 90010}, 0, ())
    assert (gpu.pci_bus_id, gpu.target) == ("0001:05:01.3", "gfx90a")
    assert KfdGpu(1, {"gfx_target_version": 120001}, 0, ()).target == "gfx1201"
    assert KfdGpu(0, {}, 0, ()).target == ""


@pytest.mark.parametrize("folder", ["mem_banks", "io_links"])
def test_what_goes_away_while_it_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """Each file is there the first time that it is read, and never again."""
    machine, met = AmdMachine("mi300x", tmp_path), set()
    read = Path.read_text

    def read_once(path: Path, *words: str) -> str:
        if folder in path.parts and path in met:
            raise OSError(5, os.strerror(5), str(path))
        met.add(path)
        return read(path, *words)

    monkeypatch.setattr(Path, "read_text", read_once)
    first, second = read_topology(machine.sys_root), read_topology(machine.sys_root)
    assert first and second
    assert len(first.gpus) == len(second.gpus) == 8
    assert first.gpus[0].memory_bytes and first.gpus[0].links
    assert second.gpus[0] != first.gpus[0]
