"""What is measured on AMD's GPUs, as sysfs shows it: counters of amdgpu, sensors of hwmon, processes of KFD.

Of a GPU that is split the driver measures the board, and nothing of that is a part's own: a part has only
processes.
Sources: Linux Documentation/gpu/amdgpu/thermal.rst; drivers/gpu/drm/amd/amdkfd/kfd_process.c (`proc`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gpuyard.devices.amd.gpus import board_folder
from gpuyard.devices.amd.kfd import gpu_ids
from gpuyard.devices.inventory import Device
from gpuyard.devices.readings import GpuProcess, Reading
from gpuyard.devices.sysfs import read_number, read_text

_MIB = 1 << 20
_PROCESSES = "class/kfd/kfd/proc"


def read_all(sys_root: Path, gpus: Iterable[Device]) -> dict[str, Reading]:
    """By UUID, of those that are there."""
    ids = gpu_ids(sys_root)
    return {gpu.uuid: _reading(sys_root, gpu) for gpu in gpus if gpu.minor in ids}


def read_processes(sys_root: Path, gpus: Iterable[Device]) -> dict[str, tuple[GpuProcess, ...]]:
    """Which have each GPU open; else as `read_all`."""
    ids = gpu_ids(sys_root)
    return {gpu.uuid: tuple(_processes(sys_root, ids[gpu.minor])) for gpu in gpus if gpu.minor in ids}


def _reading(sys_root: Path, gpu: Device) -> Reading:
    if gpu.amd is not None and not gpu.amd.is_whole:
        return Reading()
    board = board_folder(sys_root, gpu.pci_bus_id)
    total, used = (read_number(board / f"mem_info_vram_{what}") for what in ("total", "used"))
    sensors = next(iter(sorted(board.glob("hwmon/hwmon*"))), board / "hwmon")
    temperatures = _labelled(sensors, "temp")
    # Boards of Instinct have no sensor at their edge.
    chip = temperatures.get("edge") or temperatures.get("junction")
    clocks = _labelled(sensors, "freq")
    power_uw = _first(sensors, "power1_average", "power1_input")
    return Reading(
        utilisation_percent=read_number(board / "gpu_busy_percent"),
        memory_busy_percent=read_number(board / "mem_busy_percent"),
        memory_used_mib=None if used is None else used // _MIB,
        memory_free_mib=None if used is None or total is None else (total - used) // _MIB,
        temperature_c=_scaled(chip, "input", 1000),
        memory_temperature_c=_scaled(temperatures.get("mem"), "input", 1000),
        temperature_limit_c=_scaled(chip, "crit", 1000),
        power_w=None if power_uw is None else power_uw / 1_000_000,
        sm_clock_mhz=_scaled(clocks.get("sclk"), "input", 1_000_000),
        memory_clock_mhz=_scaled(clocks.get("mclk"), "input", 1_000_000),
        pcie_replays=read_number(board / "pcie_replay_count"),
    )


def _labelled(sensors: Path, kind: str) -> Mapping[str, Path]:
    """Sensors by what they are at: `edge` → `…/temp1`, to which `_input` is added."""
    found = {}
    for label in sensors.glob(f"{kind}*_label"):
        found[read_text(label)] = label.with_name(label.name.removesuffix("_label"))
    return found


def _scaled(sensor: Path | None, what: str, unit: int) -> int | None:
    value = read_number(sensor.with_name(f"{sensor.name}_{what}")) if sensor else None
    return None if value is None else round(value / unit)


def _first(folder: Path, *names: str) -> int | None:
    return next((value for name in names if (value := read_number(folder / name)) is not None), None)


def _processes(sys_root: Path, gpu_id: int) -> Iterator[GpuProcess]:
    for used in sorted((sys_root / _PROCESSES).glob(f"*/vram_{gpu_id}")):
        held = read_number(used)
        if held and used.parent.name.isdecimal():
            yield GpuProcess(int(used.parent.name), held // _MIB, "compute")
