"""How busy simulated GPUs are: figures that are plausible for the model and follow which GPUs are allotted.

Each GPU comes near its new load within seconds and its new temperature within minutes, and then swings a
little, each in a rhythm of its own. What a board draws and clocks is what its data sheet says; a board that
isn't in the tables gets what is usual.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from gpuyard.devices.inventory import Device, MigInstance
from gpuyard.devices.readings import Reading
from gpuyard.gpus.catalogue import find_model

#: Watts of the whole board, from NVIDIA's and AMD's data sheets.
_POWER_W = {
    "T4": 70, "L4": 72, "A10": 150, "A30": 165, "V100": 300, "A100": 400, "A100-40GB": 400, "A100-80GB": 400,
    "A100-40GB-PCIe": 250, "A100-80GB-PCIe": 300, "L40": 300, "L40S": 350, "H100": 700, "H100-PCIe": 350,
    "H100-NVL": 400, "H200": 700, "H200-NVL": 600, "B200": 1000, "B300": 1400, "GB200": 1200, "GB300": 1400,
    "MI300X": 750, "MI325X": 1000,
}  # fmt: skip
_USUAL_POWER_W = 300
#: Highest clock of the multiprocessors and of the memory, MHz, by family.
_CLOCKS_MHZ = {
    "volta": (1530, 877), "turing": (1590, 5001), "ampere": (1410, 1593), "ada-lovelace": (2520, 9001),
    "hopper": (1980, 2619), "blackwell": (1965, 3996),
}  # fmt: skip
_USUAL_CLOCKS_MHZ = (1755, 2600)
_IDLE_POWER = 0.11
_IDLE_CLOCK_MHZ = 345
_RESERVED = 0.006
#: What a busy one has in use and how busy it is, on average and at most more or less.
_MEMORY, _MEMORY_SWING = 0.72, 0.03
_UTILISATION, _UTILISATION_SWING = 0.88, 0.09
#: Families whose drivers have GPM, which says how busy the parts of a GPU are.
_WITH_GPM = ("hopper", "blackwell")
_PCIE_SENT_BYTES_PER_S, _PCIE_RECEIVED_BYTES_PER_S, _NVLINK_MIB_PER_S = 420e6, 2.6e9, 38_000
_LOAD_EASE_S, _HEAT_EASE_S = 5.0, 45.0
_COOL_C, _HOT_C, _LIMIT_C = 31.0, 66.0, 87


@dataclass(frozen=True)
class _Eased:
    """A value between 0 and 1 that comes near 0 or 1, since a time at which it was something else."""

    target: float = 0.0
    before: float = 0.0
    since_s: float = 0.0

    def at(self, now_s: float, ease_s: float) -> float:
        return self.target + (self.before - self.target) * math.exp(-max(0.0, now_s - self.since_s) / ease_s)

    def towards(self, target: float, now_s: float, ease_s: float) -> _Eased:
        if target == self.target:
            return self
        return _Eased(target, self.at(now_s, ease_s), now_s)


class _Load:
    """Of one GPU, or of one part of it. What it has drawn is added up whenever it is looked at."""

    def __init__(self, gpu: Device, now_s: float, memory_mib: int) -> None:
        model = find_model(gpu.model)
        self._memory_mib = memory_mib
        self._most_w = _POWER_W.get(gpu.model, _USUAL_POWER_W)
        self._has_gpm = model is not None and model.family in _WITH_GPM
        self._has_nvlink = model is not None and bool(model.nvlink)
        self._clocks_mhz = _CLOCKS_MHZ.get(model.family, _USUAL_CLOCKS_MHZ) if model else _USUAL_CLOCKS_MHZ
        rhythm = zlib.crc32(gpu.uuid.encode())
        self._phase = rhythm % 628 / 100
        self._period_s = 40 + rhythm % 53
        self._load = self._heat = _Eased()
        self._looked_s = now_s
        self._energy_j = 0.0

    def aim(self, load: float, now_s: float) -> None:
        self._add_energy(now_s)
        self._load = self._load.towards(load, now_s, _LOAD_EASE_S)
        self._heat = self._heat.towards(load, now_s, _HEAT_EASE_S)

    def read_gpu(self, now_s: float, *, split: bool) -> Reading:
        self._add_energy(now_s)
        load, heat = self._load.at(now_s, _LOAD_EASE_S), self._heat.at(now_s, _HEAT_EASE_S)
        celsius = _COOL_C + (_HOT_C - _COOL_C) * heat + 2 * load * self._swing(now_s)
        most_mhz, memory_mhz = self._clocks_mhz
        busy = self._busy(now_s)
        reading = self._memory(now_s) if split else self.read_part(now_s)
        return replace(
            reading,
            # As of real ones, whose driver doesn't say this of a GPU that is split.
            utilisation_percent=None if split else round(100 * busy),
            memory_busy_percent=None if split else round(60 * busy),
            encoder_percent=None if split else 0,
            decoder_percent=None if split else 0,
            temperature_c=round(celsius),
            memory_temperature_c=round(celsius + 6),
            temperature_limit_c=_LIMIT_C,
            power_w=round(self._power_w(now_s), 1),
            energy_mj=round(self._energy_j * 1000),
            sm_clock_mhz=round(_IDLE_CLOCK_MHZ + (most_mhz - _IDLE_CLOCK_MHZ) * min(1.0, 2 * load)),
            memory_clock_mhz=memory_mhz,
            pcie_replays=0,
            nvlink_mib_per_s=round(_NVLINK_MIB_PER_S * busy) if self._has_nvlink else None,
            vgpu_licensed=False,
            correctable_remapped_rows=0,
            uncorrectable_remapped_rows=0,
            row_remap_failed=False,
        )

    def read_part(self, now_s: float) -> Reading:
        busy = self._busy(now_s)
        if not self._has_gpm:
            return self._memory(now_s)
        return replace(
            self._memory(now_s),
            engine_active=round(busy, 6),
            sm_active=round(0.9 * busy, 6),
            sm_occupancy=round(0.34 * busy, 6),
            tensor_active=round(0.52 * busy, 6),
            memory_active=round(0.41 * busy, 6),
            pcie_sent_bytes_per_s=round(_PCIE_SENT_BYTES_PER_S * busy),
            pcie_received_bytes_per_s=round(_PCIE_RECEIVED_BYTES_PER_S * busy),
        )

    def _memory(self, now_s: float) -> Reading:
        load = self._load.at(now_s, _LOAD_EASE_S)
        reserved = round(self._memory_mib * _RESERVED)
        used = round(self._memory_mib * load * (_MEMORY + _MEMORY_SWING * self._swing(now_s)))
        return Reading(
            memory_used_mib=used,
            memory_free_mib=self._memory_mib - reserved - used,
            memory_reserved_mib=reserved,
        )

    def _swing(self, now_s: float) -> float:
        return math.sin(2 * math.pi * now_s / self._period_s + self._phase)

    def _busy(self, now_s: float) -> float:
        load = self._load.at(now_s, _LOAD_EASE_S)
        return load * (_UTILISATION + _UTILISATION_SWING * self._swing(now_s))

    def _power_w(self, now_s: float) -> float:
        return self._most_w * (_IDLE_POWER + (1 - _IDLE_POWER) * self._busy(now_s))

    def _add_energy(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._looked_s)
        self._energy_j += passed_s * (self._power_w(self._looked_s) + self._power_w(now_s)) / 2
        self._looked_s = max(self._looked_s, now_s)


class SimulatedLoad:
    """What simulated GPUs and their parts would be measured at.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._gpus: tuple[Device, ...] = ()
        self._loads: dict[str, _Load] = {}
        self._busy: frozenset[str] = frozenset()

    def follow(self, gpus: tuple[Device, ...]) -> None:
        """Says which GPUs there are now, and how they are split; those of before go on as they were."""
        now_s, before = self._clock(), self._loads
        self._gpus, self._loads = gpus, {}
        for gpu in gpus:
            self._loads[gpu.uuid] = before.get(gpu.uuid) or _Load(gpu, now_s, gpu.memory_mib)
            for part in _parts(gpu):
                self._loads[part.uuid] = before.get(part.uuid) or _Load(gpu, now_s, part.memory_mib)
        self._aim()

    def set_busy(self, uuids: Collection[str]) -> None:
        """Says which GPUs and parts are allotted now; all others are idle."""
        self._busy = frozenset(uuids)
        self._aim()

    def _aim(self) -> None:
        now_s = self._clock()
        for gpu in self._gpus:
            busy_mib = 0 if gpu.uuid not in self._busy else gpu.memory_mib
            for part in _parts(gpu):
                busy = part.uuid in self._busy
                busy_mib += busy and part.memory_mib
                self._loads[part.uuid].aim(float(busy), now_s)
            self._loads[gpu.uuid].aim(min(1.0, busy_mib / (gpu.memory_mib or 1)), now_s)

    def readings(self) -> dict[str, Reading]:
        """By UUID."""
        now_s = self._clock()
        found = {}
        for gpu in self._gpus:
            split = gpu.mig is not None and gpu.mig.enabled
            found[gpu.uuid] = self._loads[gpu.uuid].read_gpu(now_s, split=split)
            found |= {part.uuid: self._loads[part.uuid].read_part(now_s) for part in _parts(gpu)}
        return found


def _parts(gpu: Device) -> tuple[MigInstance, ...]:
    return gpu.mig.instances if gpu.mig is not None and gpu.mig.enabled else ()
