"""The file in which the exporter says what pods have used: the labeller reads it, and the next exporter.

The exporter has no right to write pods; the labeller has, and knows no GPUs.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.agent.gpu_use.ledger import HeldDevice, Look, PodName, PodUse, UseLedger
from gpuyard.agent.json_file import read_json
from gpuyard.atomic_files import replace_file
from gpuyard.gpus.use import GpuUse
from gpuyard.kube.names import is_label, is_subdomain

#: NVML's counter has 64 bits.
_MOST_MJ = 2**64


@dataclass(frozen=True)
class UseRecord:
    """What the file says.

    Attributes:
        session: which ledger it is; another for each that was begun anew.
        boot_id: of the node's boot, in which the steady clock goes on.
    """

    session: str
    boot_id: str
    pods: tuple[PodUse, ...] = ()
    last: Look | None = None

    @classmethod
    def begun(cls, boot_id: str) -> UseRecord:
        """Of a new ledger."""
        return cls(secrets.token_hex(4), boot_id)

    def ledger(self) -> UseLedger:
        """The ledger, to be continued."""
        return UseLedger(self.last, self.pods)

    def of(self, ledger: UseLedger) -> UseRecord:
        """With what the ledger says now."""
        return UseRecord(self.session, self.boot_id, ledger.pods, ledger.last)


def write_use(path: Path, record: UseRecord) -> None:
    """Replaces the file, whole or not at all.

    Raises:
        DeviceError: it can't be written.
    """
    raw = {
        "session": record.session,
        "boot_id": record.boot_id,
        "pods": [
            {"id": pod.id, "name": pod.name, "use": pod.use.to_json(), "has_ended": pod.has_ended}
            for pod in record.pods
        ],
        "last": record.last and _look_json(record.last),
    }
    try:
        # Not onto the disk each time: after a crash of the node another boot begins another ledger.
        replace_file(path, json.dumps(raw).encode(), mode=0o644, durable=False)
    except OSError as error:
        raise errors.DeviceError(
            f"can't write what pods use, {path}: {error.strerror}", remedy="name another file with --use-file"
        ) from error


def read_use(path: Path) -> UseRecord | None:
    """What the file says; None as long as there is no file.

    Raises:
        DeviceError: it isn't what `write_use` writes.
    """
    return read_json(path, _record)


def _record(raw: Any) -> UseRecord:
    return UseRecord(
        str(raw["session"]),
        str(raw["boot_id"]),
        tuple(_pod(each) for each in raw["pods"]),
        _look(raw["last"]) if raw["last"] else None,
    )


def _look_json(look: Look) -> dict[str, Any]:
    held = [[*name, sorted(devices)] for name, devices in look.held.items()]
    return {"at_s": look.at_s, "held": held, "energy_mj": dict(look.energy_mj)}


def _look(raw: Mapping[str, Any]) -> Look:
    held = {
        _pod_name([namespace, pod]): frozenset(HeldDevice(*device) for device in devices)
        for namespace, pod, devices in raw["held"]
    }
    at_s = float(raw["at_s"])
    energy_mj = {str(uuid): int(value) for uuid, value in raw["energy_mj"].items()}
    if (
        not math.isfinite(at_s)
        or not all(0 <= value < _MOST_MJ for value in energy_mj.values())
        or not all(isinstance(name, str) for each in held.values() for device in each for name in device[:2])
    ):
        raise ValueError("the last look isn't one")
    return Look(at_s, held, energy_mj)


def _pod(raw: Mapping[str, Any]) -> PodUse:
    use = GpuUse.from_json(raw["use"])
    if use is None:
        raise ValueError(f"pod {raw['name']} has no use")
    return PodUse(int(raw["id"]), _pod_name(raw["name"]), use, bool(raw["has_ended"]))


def _pod_name(raw: Iterable[Any]) -> PodName:
    name = PodName(*raw)
    # It becomes a path of the API.
    if not is_label(name.namespace) or not is_subdomain(name.pod):
        raise ValueError(f"no pod is called {name}")
    return name
