"""How NVIDIA's GPUs are split, as the driver says, and what lets a container use a part.

A container needs its GPU's device node and two of /dev/nvidia-caps: of the GPU instance and of the compute
instance. The kernel module says which they are in /proc/driver/nvidia/capabilities.
Sources: NVIDIA's MIG user guide, "Device Nodes and Capabilities"; go-nvlib's `migProfile` for names that the
driver doesn't tell.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pynvml

from gpuyard.devices.inventory import HEALTHY, Device, DeviceNode, Mig, MigInstance
from gpuyard.gpus.mig_profiles import MigEngines, MigGeometry, MigProfile

#: What getters answer where there is no MIG.
_NO_MIG = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound)
#: And for a question that means nothing here, or that only root may ask.
_SILENT = (
    *_NO_MIG,
    pynvml.NVMLError_NoPermission,
    pynvml.NVMLError_InvalidArgument,
)
_NAME = re.compile(r"\bMIG (\S+)$")
_MINOR = re.compile(r"^DeviceFileMinor:\s*(\d{1,9})$", re.MULTILINE | re.ASCII)
_GIB_IN_MIB, _EIGHTHS = 1024, 8
#: More than any profile has.
_MAX_PLACEMENTS = 64
_ENDINGS = {
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1: "+me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1: "+me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_4_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME: "+me.all",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME: "+me.all",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_NO_ME: "-me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_NO_ME: "-me",
}
_T = TypeVar("_T")


def read_mig(
    handle: Any,
    minor: int,
    memory_mib: int,
    nodes: Callable[[Iterable[str]], Iterator[DeviceNode]],
    proc: Path,
) -> Mig | None:
    """How a GPU is split; None when it can't be.

    Args:
        handle: NVML's of the GPU.
        minor: N of /dev/nvidiaN.
        memory_mib: of the whole GPU.
        nodes: finds device nodes by their names under /dev.
        proc: where procfs is mounted.

    Raises:
        NVMLError: it isn't known whether and how it is split.
    """
    if (mode := _mode(handle)) is None:
        return None
    enabled, pending = mode
    reader = _MigReader(handle, minor, memory_mib, nodes, proc)
    return Mig(enabled, pending, tuple(reader.instances()) if enabled else ())


def mig_changed(gpus: Iterable[Device]) -> bool:
    """Whether any GPU isn't split as it was when these were read; a GPU that doesn't answer is as it was."""
    for gpu in gpus:
        if gpu.mig is None:
            continue
        # Not only by their ids: the driver may give those anew.
        parts = (replace(part, nodes=(), health=HEALTHY) for part in gpu.mig.instances)
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
            now = read_mig(handle, gpu.minor, gpu.memory_mib, lambda _: iter(()), Path())
            if now != replace(gpu.mig, instances=tuple(parts)):
                return True
        except (pynvml.NVMLError, UnicodeDecodeError):
            continue
    return False


def mig_handles(handle: Any) -> Iterator[tuple[int, Any]]:
    """Index and NVML's handle of each part of a GPU."""
    for index in range(_optional(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        try:
            yield index, pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except (pynvml.NVMLError_NotFound, *_SILENT):
            continue


def driver_geometry(handle: Any, memory_mib: int) -> MigGeometry | None:
    """What the driver says that a GPU can be split into; None when it doesn't, as to others than root."""
    profiles = []
    for number in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = _profile_info(handle, number)
        if info is not None and (profile := _profile(handle, number, info, memory_mib)) is not None:
            profiles.append(profile)
    profiles.sort(key=lambda each: (-each.size, -each.slices, each.most, each.name))
    return MigGeometry(tuple(profiles)) if profiles else None


def _mode(handle: Any) -> tuple[bool, bool] | None:
    """Whether MIG is enabled, and whether it is after the next reset."""
    try:
        current, pending = pynvml.nvmlDeviceGetMigMode(handle)
    except _NO_MIG:
        return None
    return current == pynvml.NVML_DEVICE_MIG_ENABLE, pending == pynvml.NVML_DEVICE_MIG_ENABLE


def _optional(getter: Callable[..., _T], *args: Any) -> _T | None:
    try:
        return getter(*args)
    except _SILENT:
        return None


def _profile_info(handle: Any, number: int) -> Any:
    """With a name from newer drivers."""
    for version in (2, 1):
        info = _optional(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, number, version)
        if info is not None:
            return info
    return None


def _profile(handle: Any, number: int, info: Any, memory_mib: int) -> MigProfile | None:
    # The count is an answer only: the driver fills as many as it has.
    places = (pynvml.c_nvmlGpuInstancePlacement_t * _MAX_PLACEMENTS)()
    count = ctypes.c_uint(_MAX_PLACEMENTS)
    found = _optional(
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, handle, info.id, places, ctypes.byref(count)
    )
    if found is None or not count.value:
        return None
    named = _NAME.search(_text(getattr(info, "name", b"")))
    return MigProfile(
        name=named[1]
        if named
        else _computed_name(info.sliceCount, info.memorySizeMB, memory_mib) + _ENDINGS.get(number, ""),
        memory_mib=info.memorySizeMB,
        multiprocessors=info.multiprocessorCount,
        engines=MigEngines(
            info.copyEngineCount, info.decoderCount, info.encoderCount, info.jpegCount, info.ofaCount
        ),
        slices=info.sliceCount,
        size=places[0].size,
        starts=tuple(sorted(each.start for each in places[: count.value])),
        most=info.instanceCount,
        number=info.id,
    )


def _text(raw: str | bytes) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw


def _computed_name(slices: int, memory_mib: int, whole_mib: int) -> str:
    eighths = math.ceil(memory_mib / (whole_mib or memory_mib or 1) * _EIGHTHS) / _EIGHTHS
    return f"{slices}g.{round(eighths * math.ceil(whole_mib / _GIB_IN_MIB))}gb"


class _MigReader:
    def __init__(
        self,
        handle: Any,
        minor: int,
        memory_mib: int,
        nodes: Callable[[Iterable[str]], Iterator[DeviceNode]],
        proc: Path,
    ) -> None:
        self._handle = handle
        self._memory_mib = memory_mib
        self._geometry: MigGeometry | None = None
        self._nodes = nodes
        self._capabilities = proc / f"driver/nvidia/capabilities/gpu{minor}/mig"

    def instances(self) -> Iterator[MigInstance]:
        for index, part in mig_handles(self._handle):
            gi_id = pynvml.nvmlDeviceGetGpuInstanceId(part)
            ci_id = pynvml.nvmlDeviceGetComputeInstanceId(part)
            yield self._instance(index, part, gi_id, ci_id)

    def _instance(self, index: int, part: Any, gi_id: int, ci_id: int) -> MigInstance:
        has = _optional(pynvml.nvmlDeviceGetAttributes, part) or pynvml.c_nvmlDeviceAttributes()
        gi = _optional(pynvml.nvmlDeviceGetGpuInstanceById, self._handle, gi_id)
        info = None if gi is None else _optional(pynvml.nvmlGpuInstanceGetInfo, gi)
        return MigInstance(
            index=index,
            uuid=pynvml.nvmlDeviceGetUUID(part),
            profile=self._name(part, info, has),
            gi_id=gi_id,
            ci_id=ci_id,
            start=-1 if info is None else info.placement.start,
            size=0 if info is None else info.placement.size,
            gi_slices=has.gpuInstanceSliceCount,
            ci_slices=has.computeInstanceSliceCount,
            memory_mib=has.memorySizeMB,
            multiprocessors=has.multiprocessorCount,
            engines=MigEngines(
                has.sharedCopyEngineCount,
                has.sharedDecoderCount,
                has.sharedEncoderCount,
                has.sharedJpegCount,
                has.sharedOfaCount,
            ),
            nodes=tuple(self._nodes(self._caps(gi_id, ci_id))),
        )

    def _name(self, part: Any, info: Any, has: Any) -> str:
        told = _NAME.search(_optional(pynvml.nvmlDeviceGetName, part) or "")
        if told:
            return told[1]
        if self._geometry is None:
            self._geometry = driver_geometry(self._handle, self._memory_mib) or MigGeometry(())
        number = None if info is None else info.profileId
        profile = next((each for each in self._geometry.profiles if each.number == number), None)
        slices, width = has.gpuInstanceSliceCount, has.computeInstanceSliceCount
        name = profile.name if profile else _computed_name(slices, has.memorySizeMB, self._memory_mib)
        return name if width == slices else f"{width}c.{name}"

    def _caps(self, gi_id: int, ci_id: int) -> Iterator[str]:
        folder = self._capabilities / f"gi{gi_id}"
        for file in (folder / "access", folder / f"ci{ci_id}/access"):
            try:
                minor = _MINOR.search(file.read_text())
            except (OSError, ValueError):
                continue
            if minor:
                yield f"nvidia-caps/nvidia-cap{minor[1]}"
