"""How much energy the GPUs of each pod have used while it held them (pure).

The driver counts a GPU's energy as a whole. Where several pods hold parts or shares of one GPU, each gets a
part of that: by the memory of its MIG instance, or as many equal parts as it has shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gpuyard.agent.metrics.holdings import Holdings
from gpuyard.devices.inventory import Device, Inventory
from gpuyard.devices.readings import Reading

#: The account of a pod that has ended can be read for so long.
_KEEP_S = 1800.0
_Scope: TypeAlias = Literal["pod", "share"]


@dataclass(frozen=True)
class EnergyAccount:
    """Of one pod. `scope` is `share` where other pods could hold the same GPU."""

    namespace: str
    pod: str
    scope: _Scope


class EnergyAccounts:
    """Adds up from one look to the next; what nobody held is nobody's."""

    def __init__(self) -> None:
        #: Joules.
        self.used_j: dict[EnergyAccount, float] = {}
        self._held_s: dict[EnergyAccount, float] = {}
        self._last: Mapping[str, Reading] = {}
        self._last_s = 0.0
        self._holdings = Holdings()
        self._inventory: Inventory | None = None
        #: Which part of each GPU's energy is whose, by its UUID; since the last look.
        self._parts: Mapping[str, Mapping[EnergyAccount, float]] = {}

    def look(
        self, inventory: Inventory, readings: Mapping[str, Reading], holdings: Holdings, now_s: float
    ) -> None:
        """What is there now; `now_s` is of one clock that never goes back.

        Energy since the last look is of who held the GPU then.
        """
        for gpu in inventory.devices:
            before, after = self._last.get(gpu.uuid), readings.get(gpu.uuid)
            if before is None or after is None:
                continue
            joules = _joules(before, after, now_s - self._last_s)
            for account, part in self._parts.get(gpu.uuid, {}).items():
                self.used_j[account] = self.used_j.get(account, 0.0) + joules * part
        if holdings is not self._holdings or inventory is not self._inventory:
            self._parts = {gpu.uuid: _parts(gpu, holdings) for gpu in inventory.devices}
            self._holdings, self._inventory = holdings, inventory
        for parts in self._parts.values():
            for account in parts:
                # From its first second a pod is there, so that its increase can be told.
                self.used_j.setdefault(account, 0.0)
                self._held_s[account] = now_s
        for account, held_s in tuple(self._held_s.items()):
            if now_s - held_s > _KEEP_S:
                del self._held_s[account], self.used_j[account]
        self._last, self._last_s = readings, now_s


def _joules(before: Reading, after: Reading, passed_s: float) -> float:
    if before.energy_mj is not None and after.energy_mj is not None and after.energy_mj >= before.energy_mj:
        return (after.energy_mj - before.energy_mj) / 1000
    # A driver that doesn't count, or was loaded anew.
    return ((before.power_w or 0.0) + (after.power_w or 0.0)) / 2 * passed_s


def _parts(gpu: Device, holdings: Holdings) -> dict[EnergyAccount, float]:
    """Which part of a GPU's energy is whose."""
    found: dict[EnergyAccount, float] = {}

    def add(uuid: str, part: float, *, whole: bool) -> None:
        holders = holdings.by_uuid.get(uuid, ())
        # An init container holds what the pod's next one holds.
        claims = {(each.namespace, each.pod, each.device_id) for each in holders}
        alone = whole and not any(each.is_share for each in holders)
        for namespace, pod, _ in claims:
            account = EnergyAccount(namespace, pod, "pod" if alone else "share")
            found[account] = found.get(account, 0.0) + part / len(claims)

    add(gpu.uuid, 1.0, whole=True)
    for instance in gpu.mig.instances if gpu.mig else ():
        add(instance.uuid, instance.memory_mib / (gpu.memory_mib or 1), whole=False)
    return found
