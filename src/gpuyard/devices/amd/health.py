"""What is wrong with an AMD GPU, by what its attributes in sysfs say and how reading them fails.

Sources: Linux drivers/gpu/drm/amd/pm/amdgpu_pm.c (errors of reading: EBUSY during a reset, EPERM of a GPU
that sleeps), amdgpu/amdgpu_ras.c (counters, and bad pages: R reserved, P pending, F failed).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from gpuyard.devices.health import GpuState
from gpuyard.devices.inventory import Device
from gpuyard.gpus import faults

#: Not every GPU and every driver has it, one that sleeps isn't woken up, and virtual functions may not ask.
_NO_FAULT = {errno.ENOENT, errno.EINVAL, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP}
_UNCORRECTABLE = re.compile(r"^ue:\s*(\d+)", re.MULTILINE)


def probe(board: Path, gpu: Device, host_root: Path) -> GpuState:
    """How a GPU is.

    Args:
        board: the PCI device's folder in sysfs.
        gpu: with the device nodes that it has.
        host_root: where the node's own file system is seen.
    """
    needed = {"/dev/kfd", f"/dev/dri/renderD{gpu.minor}"}
    nodes = [node.host_path for node in gpu.nodes if node.path in needed]
    if len(nodes) < len(needed):
        return GpuState(fault=faults.NO_NODE)
    if not all(os.access(host_root / path[1:], os.R_OK | os.W_OK) for path in nodes):
        return GpuState(fault=faults.NO_PERMISSION)
    try:
        (board / "gpu_busy_percent").read_bytes()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return GpuState(fault=faults.IN_RESET)
        if error.errno in {errno.ENODEV, errno.ENXIO, errno.EIO}:
            return GpuState(fault=faults.LOST)
        if error.errno not in _NO_FAULT:
            return GpuState(fault=f"no answer: {error.strerror}")
    flags = {line.rpartition(":")[2].strip() for line in _read(board / "ras/gpu_vram_bad_pages").splitlines()}
    if "F" in flags:
        return GpuState(fault=faults.BAD_PAGES_FAILED)
    return GpuState(pending=faults.BAD_PAGES_PENDING) if "P" in flags else GpuState()


def uncorrectable_errors(board: Path) -> Mapping[str, int]:
    """How many each part of a GPU has counted since its driver was loaded, if it says so now."""
    counters = [*board.glob("ras/*_err_count"), *board.glob("ras/aca_*")]
    return {path.name: int(found[1]) for path in counters if (found := _UNCORRECTABLE.search(_read(path)))}


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
