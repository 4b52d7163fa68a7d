import errno
import os
from pathlib import Path

import pytest

from gpuyard.devices.amd.gpus import board_folder, read_gpus
from gpuyard.devices.amd.health import probe
from gpuyard.devices.health import GpuState
from gpuyard.gpus import faults
from tests.amd_machines import AmdMachine


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (errno.EPERM, ""),  # It sleeps.
        (errno.EINVAL, ""),  # It has no such sensor.
        (errno.ENOENT, ""),
        (errno.EBUSY, faults.IN_RESET),
        (errno.ENODEV, faults.LOST),
        (errno.EIO, faults.LOST),
        (errno.ETIME, "no answer: Timer expired"),
    ],
)
def test_how_reading_fails_says_what_is_the_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fault: str
) -> None:
    """As drivers/gpu/drm/amd/pm/amdgpu_pm.c fails; files can't."""
    machine = AmdMachine("radeon", tmp_path)
    (gpu,) = read_gpus(machine.sys_root, tmp_path).devices
    board = board_folder(machine.sys_root, gpu.pci_bus_id)

    def fail(path: Path) -> bytes:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert probe(board, gpu, tmp_path) == GpuState(fault=fault)
