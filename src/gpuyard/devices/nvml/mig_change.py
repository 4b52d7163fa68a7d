"""Splits NVIDIA's GPUs anew, as a plan says: through NVML, as root.

Each GPU is changed by itself. When a step fails, what was done to that GPU is taken back as far as the driver
lets us, and the error says what is left. The GPUs before it stay as they are then.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pynvml

from gpuyard import errors
from gpuyard.devices.inventory import Inventory, MigInstance
from gpuyard.devices.mig_layout import GpuPlan
from gpuyard.devices.nvml.mig import driver_geometry, mig_handles
from gpuyard.gpus.mig_profiles import MigGeometry, MigProfile, Placement

_COMPUTE_PROFILES = {
    1: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE,
    2: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE,
    3: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE,
    4: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_4_SLICE,
    7: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE,
    8: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_8_SLICE,
}
#: Each with an older one.
_PROCESSES = (
    (pynvml.nvmlDeviceGetComputeRunningProcesses_v3, pynvml.nvmlDeviceGetComputeRunningProcesses_v2),
    (pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2),
)
_UNANSWERED = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound)


def driver_geometries(inventory: Inventory) -> dict[str, MigGeometry]:
    """What the driver says that each GPU can be split into, by UUID; it may say it to root alone."""
    found = {}
    for gpu in inventory.devices:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            geometry = driver_geometry(handle, gpu.memory_mib) if gpu.mig else None
        except pynvml.NVMLError:
            continue
        if geometry is not None:
            found[gpu.uuid] = geometry
    return found


def processes_by_device(inventory: Inventory, proc: Path = Path("/proc")) -> dict[str, str]:
    """Who has a GPU, or a part of one, open now, for people, by its UUID."""
    found = {}
    for gpu in inventory.devices:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            split = gpu.mig is not None and gpu.mig.enabled
            devices = [part for _, part in mig_handles(handle)] if split else [handle]
            for device in devices:
                if pids := _pids(device):
                    uuid = pynvml.nvmlDeviceGetUUID(device)
                    found[uuid] = " and ".join(_process(pid, proc) for pid in sorted(pids))
        except pynvml.NVMLError as error:
            raise errors.DeviceError(
                f"the driver doesn't say who uses GPU {gpu.index}: {error}",
                remedy="see whether nvidia-smi works",
            ) from error
    return found


def _pids(device: Any) -> set[int]:
    pids = set()
    for getters in _PROCESSES:
        for getter in getters:
            try:
                pids |= {process.pid for process in getter(device)}
            except _UNANSWERED:
                continue
            break
    return pids


def _process(pid: int, proc: Path) -> str:
    try:
        return f"process {pid} ({(proc / str(pid) / 'comm').read_text().strip()})"
    except (OSError, ValueError):
        return f"process {pid}"


def apply_to_driver(plans: Sequence[GpuPlan]) -> None:
    """Does what the plans say; NVML has to be open.

    Raises:
        DeviceError: a step failed; says what of it was taken back.
    """
    done: list[str] = []
    for plan in plans:
        if not plan.changes:
            continue
        try:
            _GpuChange(plan).make()
        except errors.DeviceError as error:
            if not done:
                raise
            raise errors.DeviceError(
                f"{error.message}. Done before: {', '.join(done)}", remedy=error.remedy
            ) from error
        done.append(f"GPU {plan.gpu.index}")


@dataclass(frozen=True)
class _Undo:
    what: str
    call: Callable[[], object]


class _GpuChange:
    def __init__(self, plan: GpuPlan) -> None:
        self._plan = plan
        self._undo: list[_Undo] = []
        self._doing = "it can't be found"
        self._handle: Any = None
        self._geometry: MigGeometry | None = None

    def make(self) -> None:
        """All steps, or none as far as that is possible."""
        try:
            self._steps()
        except pynvml.NVMLError as error:
            raise self._failure(error) from error

    def _steps(self) -> None:
        plan = self._plan
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(plan.gpu.uuid)
        if plan.mode:
            self._switch_on()
        for gi_id, parts in _by_gpu_instance(plan.destroy).items():
            self._destroy(gi_id, parts)
        if plan.create:
            self._remove_empty()
        for placement in plan.create:
            self._create(placement)
        if plan.mode is False:
            self._doing = "switching MIG off"
            self._activated(pynvml.nvmlDeviceSetMigMode(self._handle, pynvml.NVML_DEVICE_MIG_DISABLE), "off")

    def _switch_on(self) -> None:
        self._doing = "switching MIG on"
        self._activated(pynvml.nvmlDeviceSetMigMode(self._handle, pynvml.NVML_DEVICE_MIG_ENABLE), "on")
        self._undo.append(
            _Undo(
                "MIG is still on",
                lambda: pynvml.nvmlDeviceSetMigMode(self._handle, pynvml.NVML_DEVICE_MIG_DISABLE),
            )
        )

    def _activated(self, status: int, mode: str) -> None:
        if status == pynvml.NVML_ERROR_RESET_REQUIRED:
            # Before Hopper. It is asked for now, and stays so.
            raise errors.DeviceError(
                f"GPU {self._plan.gpu.index}: MIG is {mode} once the GPU has been reset",
                remedy="reset it with nothing on it (`nvidia-smi --gpu-reset`), or reboot, and apply again",
            )
        if status:
            raise pynvml.NVMLError(status)

    def _destroy(self, gi_id: int, parts: Sequence[MigInstance]) -> None:
        name = f"{parts[0].profile}@{parts[0].start}"
        self._doing = f"destroying {name}"
        instance = pynvml.nvmlDeviceGetGpuInstanceById(self._handle, gi_id)
        number = pynvml.nvmlGpuInstanceGetInfo(instance).profileId
        for part in parts:
            compute = pynvml.nvmlGpuInstanceGetComputeInstanceById(instance, part.ci_id)
            pynvml.nvmlComputeInstanceDestroy(compute)
            self._undo.append(_Undo(f"{name} is gone", partial(_add_compute, instance, part.ci_slices)))
        pynvml.nvmlGpuInstanceDestroy(instance)
        # In place of what gave single compute instances back.
        del self._undo[-len(parts) :]
        self._undo.append(_Undo(f"{name} is gone", lambda: self._make_again(number, parts)))

    def _make_again(self, number: int, parts: Sequence[MigInstance]) -> None:
        instance = self._new_instance(number, parts[0].start, parts[0].size)
        for part in parts:
            _add_compute(instance, part.ci_slices)

    def _remove_empty(self) -> None:
        """GPU instances without a compute instance: nobody can use them, and they are in the way."""
        self._doing = "removing empty GPU instances"
        known = {part.gi_id for part in self._plan.keep}
        geometry = driver_geometry(self._handle, self._plan.gpu.memory_mib)
        for profile in geometry.profiles if geometry else ():
            for instance in self._instances(profile):
                if pynvml.nvmlGpuInstanceGetInfo(instance).id not in known:
                    pynvml.nvmlGpuInstanceDestroy(instance)

    def _instances(self, profile: MigProfile) -> Iterator[Any]:
        found = (pynvml.c_nvmlGpuInstance_t * max(profile.most, 1))()
        count = ctypes.c_uint(profile.most)
        pynvml.nvmlDeviceGetGpuInstances(self._handle, profile.number, found, ctypes.byref(count))
        yield from found[: count.value]

    def _create(self, placement: Placement) -> None:
        self._doing = f"creating {placement}"
        profile = self._told(placement.profile)
        instance = self._new_instance(profile.number, placement.start, profile.size)
        self._undo.append(_Undo(f"{placement} is there", lambda: pynvml.nvmlGpuInstanceDestroy(instance)))
        compute = _add_compute(instance, profile.slices)
        self._undo.append(_Undo(f"{placement} is there", lambda: pynvml.nvmlComputeInstanceDestroy(compute)))

    def _told(self, profile: MigProfile) -> MigProfile:
        """The driver's own profile in the place of one from the catalogue, which may have another name there.

        Before MIG is on the driver doesn't say what it has.
        """
        if profile.number is not None:
            return profile
        if self._geometry is None:
            self._geometry = driver_geometry(self._handle, self._plan.gpu.memory_mib) or MigGeometry(())
        alike = [each for each in self._geometry.profiles if _shape(each) == _shape(profile)]
        found = self._geometry.find(profile.name) or (alike[0] if len(alike) == 1 else None)
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return found

    def _new_instance(self, number: int | None, start: int, size: int) -> Any:
        place = pynvml.c_nvmlGpuInstancePlacement_t(start, size)
        return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(self._handle, number, ctypes.byref(place))

    def _failure(self, error: pynvml.NVMLError) -> errors.DeviceError:
        left = []
        for undo in reversed(self._undo):
            try:
                undo.call()
            except pynvml.NVMLError:
                left.append(undo.what)
        after = (
            f"what was done before couldn't be taken back: {', '.join(left)}" if left else "it is as before"
        )
        return errors.DeviceError(
            f"GPU {self._plan.gpu.index}: {self._doing} failed: {error}; {after}", remedy=_remedy(error)
        )


def _shape(profile: MigProfile) -> tuple[int, int, int, str]:
    """Slices, memory slices, how many there can be, and what follows the memory in the name."""
    return profile.slices, profile.size, profile.most, profile.name.partition("gb")[2]


def _by_gpu_instance(parts: Sequence[MigInstance]) -> dict[int, list[MigInstance]]:
    found: dict[int, list[MigInstance]] = {}
    for part in parts:
        found.setdefault(part.gi_id, []).append(part)
    return found


def _add_compute(instance: Any, width: int) -> Any:
    shared = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    number = _COMPUTE_PROFILES.get(width, pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)
    try:
        info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, shared)
    except _UNANSWERED:
        info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, shared, 1)
    return pynvml.nvmlGpuInstanceCreateComputeInstance(instance, info.id)


def _remedy(error: pynvml.NVMLError) -> str:
    match error.value:
        case pynvml.NVML_ERROR_NO_PERMISSION:
            return "run it as root"
        case pynvml.NVML_ERROR_NOT_SUPPORTED:
            return "see which profiles this driver has: `nvidia-smi mig -lgip`"
        case pynvml.NVML_ERROR_IN_USE:
            return "stop what has the GPU open (see `fuser -v /dev/nvidia*`), monitoring too, and try again"
        case pynvml.NVML_ERROR_RESET_REQUIRED:
            return "reset the GPU with nothing on it (`nvidia-smi --gpu-reset`), or reboot, and apply again"
        case _:
            return "see `nvidia-smi mig -lgi`, and the kernel log"
