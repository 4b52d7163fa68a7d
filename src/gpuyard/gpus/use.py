"""What a pod used of its GPUs over all of its time, and how an annotation of it says so (pure).

An agent counts while it runs, and its sums are replaced as they grow. So the annotation has one entry for
each time that an agent counted ("session"), and what the pod used is their sum: nothing is counted twice,
whichever agent writes last, and nothing is lost when one starts anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_COMPLETION_INDEX, ANNOTATION_GPU_USE

#: More sessions than these are put together, the oldest first: an annotation must not grow for ever.
_MAX_SESSIONS = 8
_EARLIER = "earlier"
_JOULES_PER_KWH = 3_600_000
#: No pod uses as much of anything, and sums of it are numbers still: who may write pods may write it.
_MOST = 1e15


@dataclass(frozen=True)
class GpuUse:
    """Sums over time; each GPU, part of a GPU or share of one counts for itself.

    Attributes:
        gpus: the most that were held at once.
        gpu_s: seconds that each was held, added up.
        measured_gpu_s: those of them in which its utilisation is known; a shared GPU's is nobody's own.
        busy_gpu_s: those seconds times the utilisation.
        peak_percent: the highest utilisation of any.
        memory_gpu_s: as `measured_gpu_s`, of the memory in use.
        memory_mib_s: that memory times those seconds.
        peak_memory_mib: the most memory in use on any.
        energy_gpu_s: as `measured_gpu_s`, of the energy.
        energy_j: of the whole boards.
    """

    gpus: int = 0
    gpu_s: float = 0.0
    measured_gpu_s: float = 0.0
    busy_gpu_s: float = 0.0
    peak_percent: float = 0.0
    memory_gpu_s: float = 0.0
    memory_mib_s: float = 0.0
    peak_memory_mib: float = 0.0
    energy_gpu_s: float = 0.0
    energy_j: float = 0.0

    def then(self, later: GpuUse) -> GpuUse:
        """With what was used afterwards, as by a further attempt."""
        return self._with(later, max(self.gpus, later.gpus))

    def beside(self, other: GpuUse) -> GpuUse:
        """With what was used at the same time, as by another pod."""
        return self._with(other, self.gpus + other.gpus)

    def _with(self, other: GpuUse, gpus: int) -> GpuUse:
        return GpuUse(
            gpus,
            self.gpu_s + other.gpu_s,
            self.measured_gpu_s + other.measured_gpu_s,
            self.busy_gpu_s + other.busy_gpu_s,
            max(self.peak_percent, other.peak_percent),
            self.memory_gpu_s + other.memory_gpu_s,
            self.memory_mib_s + other.memory_mib_s,
            max(self.peak_memory_mib, other.peak_memory_mib),
            self.energy_gpu_s + other.energy_gpu_s,
            self.energy_j + other.energy_j,
        )

    @property
    def held_s(self) -> float:
        """For how long it held them."""
        return self.gpu_s / self.gpus if self.gpus else 0.0

    @property
    def mean_percent(self) -> float | None:
        """The mean utilisation; None where nobody measured it."""
        return self.busy_gpu_s / self.measured_gpu_s * 100 if self.measured_gpu_s else None

    @property
    def mean_memory_mib(self) -> float | None:
        """The mean memory in use on one GPU; None where nobody measured it."""
        return self.memory_mib_s / self.memory_gpu_s if self.memory_gpu_s else None

    @property
    def energy_kwh(self) -> float | None:
        """None where nobody measured it."""
        return self.energy_j / _JOULES_PER_KWH if self.energy_gpu_s else None

    def summary(self) -> dict[str, Any]:
        """What people ask for, rounded; None where nobody measured it."""
        return {
            "gpus": self.gpus,
            "gpu_seconds": round(self.gpu_s),
            "mean_utilisation_percent": _rounded(self.mean_percent, 1),
            "peak_utilisation_percent": self.peak_percent if self.measured_gpu_s else None,
            "mean_memory_mib": _rounded(self.mean_memory_mib, 0),
            "peak_memory_mib": self.peak_memory_mib if self.memory_gpu_s else None,
            "energy_kwh": _rounded(self.energy_kwh, 4),
        }

    def to_json(self) -> dict[str, float]:
        """All fields that aren't 0."""
        return {name: round(value, 3) for name, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, raw: object) -> GpuUse | None:
        """What `to_json` gives; None for anything else."""
        if not isinstance(raw, Mapping):
            return None
        values = {field.name: raw.get(field.name, 0) for field in fields(cls)}
        if not all(type(each) in (int, float) and 0 <= each <= _MOST for each in values.values()):
            return None
        return cls(**values)


def pod_use(pod: Mapping[str, Any]) -> GpuUse | None:
    """What a pod has used so far, as its annotation says; None where it doesn't."""
    sessions = list(_sessions(annotations_of(pod).get(ANNOTATION_GPU_USE, "")).values())
    total = None
    for use in sessions:
        total = use if total is None else total.then(use)
    return total


def with_session(annotation: str, session: str, use: GpuUse) -> str:
    """The annotation's value with this in the place of what the session has said before."""
    sessions = {**_sessions(annotation), session: use}
    while len(sessions) > _MAX_SESSIONS:
        oldest, second = (name for name, _ in zip(sessions, range(2), strict=False))
        put_together = sessions.pop(oldest).then(sessions.pop(second))
        sessions = {_EARLIER: put_together, **sessions}
    raw = {name: each.to_json() for name, each in sessions.items()}
    return json.dumps(raw, separators=(",", ":"))


def _sessions(annotation: str) -> dict[str, GpuUse]:
    try:
        raw = json.loads(annotation or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(raw, dict):
        return {}
    return {name: use for name, each in raw.items() if (use := GpuUse.from_json(each)) is not None}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def run_use(pods: Iterable[Manifest]) -> GpuUse | None:
    """What a run has used, all its pods together, attempt after attempt; None where none says anything.

    The pods are in the order of their creation. Those of one completion index are attempts, one
    after another; those of others ran beside them.
    """
    by_index: dict[str, GpuUse] = {}
    for pod in pods:
        if (use := pod_use(pod)) is not None:
            index = annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX, "")
            by_index[index] = by_index[index].then(use) if index in by_index else use
    total: GpuUse | None = None
    for use in by_index.values():
        total = use if total is None else total.beside(use)
    return total
