"""Which GPUs there were when they were read, and their device nodes. It tells cheaply what changed since."""

from __future__ import annotations

import os
from pathlib import Path

import pynvml

from gpuyard.devices.inventory import Device
from gpuyard.devices.nvml.library import GONE, Nvml, gone
from gpuyard.gpus import faults

#: Without these nobody computes on any GPU.
_NEEDED = ("nvidiactl", "nvidia-uvm")


class Presence:
    """The GPUs and their device nodes at one moment. Taking it asks the driver.

    Args:
        driver: NVML, open.

    Raises:
        DriverGone: NVML has to be started anew.
    """

    def __init__(self, driver: Nvml) -> None:
        self._driver = driver
        self._bound = _bound_gpus(driver.sys_root)
        self._found = _found()
        self._nodes = _nodes(driver.dev)

    def has_changed(self) -> bool:
        """Whether the GPUs have to be read anew.

        Raises:
            DriverGone: NVML has to be started anew.
        """
        found = _found()
        # Those that don't answer now are what they were.
        is_other = any(
            now is not None and now != before for now, before in zip(found, self._found, strict=False)
        )
        has_others = is_other or (bool(found) and len(found) != len(self._found))
        return has_others or self.is_stale() or bool(_nodes(self._driver.dev) - self._nodes)

    def is_stale(self) -> bool:
        """Whether the kernel's driver has other GPUs: NVML counts those that it found at its start."""
        return _bound_gpus(self._driver.sys_root) != self._bound

    def node_fault(self, gpu: Device) -> str:
        """Why nobody can open the GPU, see `gpus.faults`; empty where it never had device nodes."""
        for name in (*_NEEDED, f"nvidia{gpu.minor}"):
            path = self._driver.dev / name
            if name not in self._nodes:
                continue
            if not path.exists():
                return faults.NO_NODE
            if not os.access(path, os.R_OK | os.W_OK):
                return faults.NO_PERMISSION
        return ""


def _bound_gpus(sys_root: Path) -> frozenset[str]:
    """Their PCI addresses, and a few words that stay the same."""
    try:
        return frozenset(path.name for path in (sys_root / "bus/pci/drivers/nvidia").iterdir())
    except OSError:
        return frozenset()


def _nodes(dev: Path) -> frozenset[str]:
    return frozenset(path.name for path in dev.glob("nvidia*"))


def _found() -> tuple[str | None, ...]:
    """The UUID of each GPU, None where it doesn't say; () without any answer."""
    try:
        return tuple(_uuid(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except GONE as error:
        raise gone(error) from error
    except pynvml.NVMLError:
        return ()


def _uuid(index: int) -> str | None:
    try:
        uuid: str = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))
    except GONE:
        raise
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None
    return uuid
