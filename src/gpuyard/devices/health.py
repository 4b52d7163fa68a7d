"""Which GPUs are healthy, by what their driver reported and answered, whosever driver it is.

A GPU that was unhealthy is healthy again when it has answered for a while without another fault and needs no
reset.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from gpuyard.devices.inventory import Health
from gpuyard.devices.readings import XidCounts
from gpuyard.gpus import faults

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often the driver is asked.

    Attributes:
        quiet_s: a GPU that answers has to go so long without a fault before it counts as healthy again.
        probe_s: each GPU is asked so often.
        wait_s: an event is waited for so long at a time; nothing else is asked meanwhile.
        gone_s: a driver that is gone is looked for so often, by a node that knows its GPUs.
        look_again_s: a node without GPUs, or with some that can't be read, is looked at again so often.
    """

    quiet_s: float = 30.0
    probe_s: float = 5.0
    wait_s: float = 0.5
    gone_s: float = 2.0
    look_again_s: float = 30.0


@dataclass(frozen=True)
class GpuState:
    """What a GPU said when it was asked; empty texts when all is well.

    Attributes:
        fault: makes it unhealthy by itself.
        pending: keeps it unhealthy after another fault.
    """

    fault: str = ""
    pending: str = ""


@dataclass(frozen=True)
class _Sick:
    health: Health
    last_s: float
    by_event: bool = False


class HealthTracker:
    """What is known about each GPU's health.

    Args:
        quiet_s: how long one has to go without a fault before it counts as healthy again.
        clock: says since when one is unhealthy.
    """

    def __init__(self, quiet_s: float, clock: Callable[[], datetime]) -> None:
        self._quiet_s = quiet_s
        self._clock = clock
        self._sick: dict[str, _Sick] = {}
        #: Of all XIDs that were reported, also of those that are no fault of a GPU.
        self.xids = XidCounts()

    @property
    def unhealthy(self) -> Mapping[str, Health]:
        """By UUID."""
        return {uuid: sick.health for uuid, sick in self._sick.items()}

    def fault(self, uuid: str, reason: str, now_s: float) -> None:
        """The driver reported a fault of the GPU. `now_s` is of one monotonic clock."""
        known = self._sick.get(uuid)
        if known is None:
            health = Health(reason, self._clock())
        elif known.by_event and now_s - known.last_s < self._quiet_s:
            # The first of several XIDs is the cause, the others come of it.
            health = known.health
        else:
            health = replace(known.health, reason=reason)
        self._sick[uuid] = _Sick(health, now_s, by_event=True)

    def forget_others(self, uuids: Iterable[str]) -> None:
        """Only these are there: an instance that is made anew under an old id begins well."""
        kept = set(uuids)
        self._sick = {uuid: sick for uuid, sick in self._sick.items() if uuid in kept}

    def gone(self, uuids: Iterable[str], now_s: float) -> None:
        """The driver went away from under all of these GPUs."""
        for uuid in uuids:
            self.probed(uuid, GpuState(fault=faults.DRIVER_GONE), now_s)

    def probed(self, uuid: str, answer: GpuState, now_s: float) -> None:
        """The GPU was asked."""
        known = self._sick.get(uuid)
        if answer.fault:
            # An event says more than the silence that follows it; the quiet time begins at the end of both.
            health = known.health if known else Health("", self._clock())
            by_event = known is not None and known.by_event
            if not by_event:
                health = replace(health, reason=answer.fault)
            self._sick[uuid] = _Sick(health, now_s, by_event)
        elif known is not None and now_s - known.last_s >= self._quiet_s:
            if answer.pending:
                health = replace(known.health, reason=answer.pending)
                self._sick[uuid] = _Sick(health, known.last_s)
            else:
                del self._sick[uuid]


def log_changes(before: Mapping[str, Health], after: Mapping[str, Health]) -> None:
    """Says in the log who became unhealthy, and who is well again."""
    for uuid, health in after.items():
        if before.get(uuid) != health:
            _LOG.warning("GPU %s is unhealthy: %s", uuid, health.reason)
    for uuid in sorted(before.keys() - after.keys()):
        _LOG.info("GPU %s is healthy again", uuid)
