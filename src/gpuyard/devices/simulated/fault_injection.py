"""Faults of simulated GPUs, put into the file that the simulated backend reads (its `control`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpuyard.devices.simulated.state import change_state


def set_fault(file: Path, gpu: int, uuid: str, reason: str) -> None:
    """Makes a simulated GPU unhealthy, or healthy again; everything else in the file stays.

    Args:
        file: see `SimulatedBackend`; it need not be there.
        gpu, uuid: its index, and its UUID where that is known: the file may name it by either.
        reason: see `gpus.faults`; empty for a healthy GPU.

    Raises:
        DeviceError: the file isn't what it has to be, or can't be written.
    """

    def put(raw: dict[str, Any]) -> None:
        unhealthy = raw.setdefault("unhealthy", {})
        for name in (str(gpu), uuid):
            unhealthy.pop(name, None)
        if reason:
            unhealthy[str(gpu)] = reason

    change_state(file, put)
