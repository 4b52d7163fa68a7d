"""Faults of simulated GPUs, put into the file that the simulated backend reads (its `control`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.atomic_files import replace_file
from gpuyard.regular_files import read_regular


def set_fault(file: Path, gpu: int, uuid: str, reason: str) -> None:
    """Makes a simulated GPU unhealthy, or healthy again; everything else in the file stays.

    Args:
        file: see `SimulatedBackend`; it need not be there.
        gpu, uuid: its index, and its UUID where that is known: the file may name it by either.
        reason: see `gpus.faults`; empty for a healthy GPU.

    Raises:
        DeviceError: the file isn't what it has to be, or can't be written.
    """
    raw = _read(file)
    unhealthy = raw.setdefault("unhealthy", {})
    for name in (str(gpu), uuid):
        unhealthy.pop(name, None)
    if reason:
        unhealthy[str(gpu)] = reason
    try:
        replace_file(file, json.dumps(raw, indent=2).encode() + b"\n", mode=0o600)
    except OSError as error:
        raise errors.DeviceError(
            f"can't write {file}: {error.strerror}", remedy="make room there, and see who may write it"
        ) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(read_regular(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(file, str(error)) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("unhealthy", {}), dict):
        raise _unreadable(file, 'it isn\'t {"unhealthy": {"3": "XID 79"}}')
    return raw


def _unreadable(file: Path, why: str) -> errors.DeviceError:
    return errors.DeviceError(
        f"can't read {file}: {why}", remedy="mend it, or remove it: all GPUs are healthy then"
    )
