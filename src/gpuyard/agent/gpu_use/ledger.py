"""Adding up what pods use of their GPUs (pure): from who holds which, and what is measured, at moments.

Time is a steady clock's, and energy the difference of counters, so that nothing depends on the wall clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from gpuyard.devices.readings import Reading
from gpuyard.gpus.use import GpuUse

#: After so long without a look nobody knows how busy a GPU was meanwhile. What its counter says still counts.
_MAX_MEASURED_GAP_S = 60.0
#: Of pods that hold nothing any more, so many are kept for whoever writes them down.
_MAX_ENDED = 256


class PodName(NamedTuple):
    """A pod as PodResources names it."""

    namespace: str
    pod: str


class HeldDevice(NamedTuple):
    """A device that a pod holds.

    Attributes:
        id: the kubelet's.
        uuid: whose reading it is: of the GPU or MIG instance.
        is_shared: others may have it, too, so that what is measured on it isn't the pod's own.
    """

    id: str
    uuid: str
    is_shared: bool = False


@dataclass(frozen=True)
class PodUse:
    """What one pod has used.

    Attributes:
        id: differs from those of other pods that had the same name.
        has_ended: it holds nothing any more.
    """

    id: int
    name: PodName
    use: GpuUse = field(default_factory=GpuUse)
    has_ended: bool = False


@dataclass(frozen=True)
class Look:
    """What was seen at one moment.

    Attributes:
        at_s: by a steady clock.
        held: by pod.
        energy_mj: counters, by UUID.
    """

    at_s: float
    held: Mapping[PodName, Set[HeldDevice]] = field(default_factory=dict)
    energy_mj: Mapping[str, int] = field(default_factory=dict)


class UseLedger:
    """What pods of one node have used since it was begun.

    Args:
        last, pods: of a ledger that is continued.
    """

    def __init__(self, last: Look | None = None, pods: tuple[PodUse, ...] = ()) -> None:
        self._last = last
        self._open = {pod.name: pod for pod in pods if not pod.has_ended}
        self._ended = [pod for pod in pods if pod.has_ended]
        self._ids = count(max((pod.id for pod in pods), default=0) + 1)

    @property
    def last(self) -> Look | None:
        """The last look; None before the first."""
        return self._last

    @property
    def pods(self) -> tuple[PodUse, ...]:
        """Those that have ended first."""
        return (*self._ended, *self._open.values())

    def note(
        self, at_s: float, held: Mapping[PodName, Set[HeldDevice]], readings: Mapping[str, Reading]
    ) -> None:
        """Adds what was used since the last look by those who held devices then and hold them now."""
        energy = {uuid: each.energy_mj for uuid, each in readings.items() if each.energy_mj is not None}
        look, last = Look(at_s, held, energy), self._last
        for name in [name for name in self._open if not held.get(name)]:
            self._ended.append(replace(self._open.pop(name), has_ended=True))
        del self._ended[:-_MAX_ENDED]
        for name, devices in held.items():
            if not devices:
                continue
            pod = self._open.get(name) or PodUse(next(self._ids), name)
            now = GpuUse(gpus=len(devices))
            if last is not None and name in last.held:
                for device in devices & last.held[name]:
                    # All of them at the same time; `then` below keeps the number that was held.
                    now = replace(now.then(_used(device, last, look, readings)), gpus=len(devices))
            self._open[name] = replace(pod, use=pod.use.then(now))
        self._last = look


def _used(device: HeldDevice, last: Look, look: Look, readings: Mapping[str, Reading]) -> GpuUse:
    """By one device between two looks."""
    seconds = max(0.0, look.at_s - last.at_s)
    use = GpuUse(gpu_s=seconds)
    reading = readings.get(device.uuid)
    if reading is None or device.is_shared or not seconds:
        return use
    if (energy_j := _energy_j(device.uuid, last, look, reading)) is not None:
        use = replace(use, energy_gpu_s=seconds, energy_j=energy_j)
    if seconds > _MAX_MEASURED_GAP_S:
        return use
    if (percent := reading.utilisation_percent) is not None:
        busy_s = seconds * percent / 100
        use = replace(use, measured_gpu_s=seconds, busy_gpu_s=busy_s, peak_percent=percent)
    if (used_mib := reading.memory_used_mib) is not None:
        use = replace(use, memory_gpu_s=seconds, memory_mib_s=seconds * used_mib, peak_memory_mib=used_mib)
    return use


def _energy_j(uuid: str, last: Look, look: Look, reading: Reading) -> float | None:
    before, after = last.energy_mj.get(uuid), look.energy_mj.get(uuid)
    if before is not None and after is not None and after >= before:
        return (after - before) / 1000
    # Without a counter, and where it began anew: a driver that was loaded again.
    if reading.power_w is None or look.at_s - last.at_s > _MAX_MEASURED_GAP_S:
        return None
    return reading.power_w * (look.at_s - last.at_s)
