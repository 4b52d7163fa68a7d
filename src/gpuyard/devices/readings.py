"""Values that are measured on a GPU at one moment; None stands for what the driver doesn't say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

#: What a driver can say that holds the clocks down.
THROTTLE_REASONS = (
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
)


@dataclass(frozen=True)
class GpuProcess:
    """A process that has a GPU open.

    Attributes:
        pid: as the node itself numbers it, not as a container does.
        memory_mib: of the GPU; the driver knows it of no process inside another PID namespace of WSL.
        kind: what it opened the GPU for.
        gi_id: the GPU instance that it is on; None on a GPU without MIG.
        simulated: it is make-believe, and the machine knows nothing of it.
        user, command: of such a process.
    """

    pid: int
    memory_mib: int | None
    kind: Literal["compute", "graphics"]
    gi_id: int | None = None
    simulated: bool = False
    user: str = ""
    command: str = ""


@dataclass(frozen=True)
class Reading:
    """Of one GPU; or of one MIG instance, and then what the driver says of that instance alone.

    Attributes:
        utilisation_percent: part of the last moment in which any kernel ran.
        memory_busy_percent: part of it in which memory was read or written.
        encoder_percent: how busy the video encoders are.
        decoder_percent: how busy the video decoders are.
        memory_used_mib: held by processes.
        memory_free_mib: that can be allocated.
        memory_reserved_mib: held by the driver and the firmware.
        temperature_c: of the chip.
        memory_temperature_c: of the memory.
        temperature_limit_c: the chip slows down from here on.
        power_w: of the whole board.
        energy_mj: millijoules since the driver was loaded; simulated: since this process began.
        sm_clock_mhz: of the multiprocessors.
        memory_clock_mhz: of the memory.
        pcie_replays: PCIe packets sent again.
        correctable_remapped_rows: memory rows replaced for errors that were corrected.
        uncorrectable_remapped_rows: memory rows replaced for errors that weren't.
        row_remap_failed: no spare row was left for one.
        throttle_reasons: what holds its clocks down now, of THROTTLE_REASONS.
        engine_active: part of the time since the last look in which anything computed, 0 to 1.
        sm_active: part of its multiprocessors' time in which they had work.
        sm_occupancy: how many warps they had, of as many as they can.
        tensor_active: part of the time in which tensor cores worked.
        memory_active: part of the memory's bandwidth that was used.
        pcie_sent_bytes_per_s: over PCIe since the last look, protocol included.
        pcie_received_bytes_per_s: the same to the GPU.
        nvlink_mib_per_s: over all NVLinks since the last look, both ways together.
        vgpu_licensed: a virtual GPU has its license; of one that needs none it is False.
        xids: how often each was reported since this process began, the application's own faults too.
        last_xid: the last of them; 0 when there was none.
    """

    utilisation_percent: int | None = None
    memory_busy_percent: int | None = None
    encoder_percent: int | None = None
    decoder_percent: int | None = None
    memory_used_mib: int | None = None
    memory_free_mib: int | None = None
    memory_reserved_mib: int | None = None
    temperature_c: int | None = None
    memory_temperature_c: int | None = None
    temperature_limit_c: int | None = None
    power_w: float | None = None
    energy_mj: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    pcie_replays: int | None = None
    correctable_remapped_rows: int | None = None
    uncorrectable_remapped_rows: int | None = None
    row_remap_failed: bool | None = None
    throttle_reasons: tuple[str, ...] = ()
    engine_active: float | None = None
    sm_active: float | None = None
    sm_occupancy: float | None = None
    tensor_active: float | None = None
    memory_active: float | None = None
    pcie_sent_bytes_per_s: int | None = None
    pcie_received_bytes_per_s: int | None = None
    nvlink_mib_per_s: int | None = None
    vgpu_licensed: bool | None = None
    xids: Mapping[int, int] = field(default_factory=dict)
    last_xid: int = 0


class XidCounts:
    """How often each XID was reported of each GPU since this process began."""

    def __init__(self) -> None:
        self._by_uuid: dict[str, dict[int, int]] = {}

    def add(self, uuid: str, xid: int) -> None:
        """It was reported of this GPU."""
        counted = self._by_uuid.setdefault(uuid, {})
        # The last one reported is the last one there.
        counted[xid] = counted.pop(xid, 0) + 1

    def put_into(self, readings: Mapping[str, Reading]) -> dict[str, Reading]:
        """These readings, by UUID, with what was counted; also of GPUs that don't answer any more."""
        found = dict(readings)
        for uuid, counted in self._by_uuid.items():
            reading = found.get(uuid, Reading())
            found[uuid] = replace(reading, xids=dict(counted), last_xid=next(reversed(counted)))
        return found
