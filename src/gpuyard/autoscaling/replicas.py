"""How many replicas one metric asks for, as Kubernetes counts (pure).

Source: kubernetes `pkg/controller/podautoscaler/replica_calculator.go`, calcPlainMetricReplicas and
GetExternalPerPodMetricReplicas. Values are whole thousandths there, and so they are here: their average is
rounded down, which decides at the edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuyard.autoscaling.spec import ScalingRules
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import Manifest

NO_PODS = "no pods returned by selector while calculating replica count"
NO_METRICS = "did not receive metrics for targeted pods (pods might be unready)"


@dataclass(frozen=True)
class ScaledPod:
    """A pod as the count has it.

    Attributes:
        leaving: it is being deleted or has failed, and doesn't count.
        pending: nothing of it runs yet; it counts as one that does nothing where more are wanted.
        ready: it gets requests.
    """

    name: str
    leaving: bool = False
    pending: bool = False
    ready: bool = True

    @classmethod
    def of(cls, pod: Manifest) -> ScaledPod:
        """As its pod says."""
        phase = (pod.get("status") or {}).get("phase", "Pending")
        leaving = bool(pod["metadata"].get("deletionTimestamp")) or phase == "Failed"
        ready = not leaving and phase == "Running" and condition_is_true(pod, "Ready")
        return cls(pod["metadata"]["name"], leaving, phase == "Pending", ready)


@dataclass(frozen=True)
class Proposal:
    """So many replicas, for so much on average, in thousandths."""

    replicas: int
    average_milli: int


@dataclass(frozen=True)
class Unmeasured:
    """Why a metric proposes nothing, in Kubernetes' words where it has some."""

    why: str


@dataclass(frozen=True)
class Tolerance:
    """How far measured / wanted may be from 1, downwards and upwards, before something is done."""

    down: float
    up: float

    @classmethod
    def of(cls, down: ScalingRules, up: ScalingRules) -> Tolerance:
        """As the rules of both directions have it."""
        return cls(down.tolerance, up.tolerance)

    def covers(self, ratio: float) -> bool:
        """Whether it is near enough."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def replicas_for_average(
    target_milli: int,
    values: Mapping[str, int],
    replicas: Sequence[ScaledPod],
    current: int,
    tolerance: Tolerance,
) -> Proposal | Unmeasured:
    """How many for a metric that each pod has a value of.

    Pods without one count as doing just what they should where fewer are wanted, and nothing where more are:
    what isn't known never makes the change larger.

    Args:
        values: in thousandths, by name of the pod.
        current: how many are asked for now.
    """
    if not replicas:
        return Unmeasured(NO_PODS)
    running = [one.name for one in replicas if not one.leaving and not one.pending]
    measured = {name: values[name] for name in running if name in values}
    if not measured:
        return Unmeasured(NO_METRICS)
    average, ratio = _usage(measured, target_milli)
    pending = [one.name for one in replicas if one.pending and not one.leaving] if ratio > 1.0 else []
    missing = [name for name in running if name not in values]
    if not pending and not missing:
        within = tolerance.covers(ratio)
        return Proposal(current if within else math.ceil(ratio * len(measured)), average)
    if ratio != 1.0:
        measured |= dict.fromkeys(missing, target_milli if ratio < 1.0 else 0)
    measured |= dict.fromkeys(pending, 0)
    _, filled = _usage(measured, target_milli)
    wanted = math.ceil(filled * len(measured))
    turned = (ratio < 1.0 < filled) or (ratio > 1.0 > filled)
    against = (filled < 1.0 and wanted > current) or (filled > 1.0 and wanted < current)
    return Proposal(current if tolerance.covers(filled) or turned or against else wanted, average)


def replicas_for_total(
    target_milli: int, total_milli: int, existing: int, current: int, tolerance: Tolerance
) -> Proposal:
    """How many for a metric of all together, each of which may have its part.

    Args:
        existing: pods that there are, ready or not.
        current: how many are asked for now.
    """
    if existing and tolerance.covers(total_milli / (target_milli * existing)):
        return Proposal(current, math.ceil(total_milli / existing))
    wanted = math.ceil(total_milli / target_milli)
    return Proposal(wanted, math.ceil(total_milli / existing) if existing else total_milli)


def _usage(values: Mapping[str, int], target_milli: int) -> tuple[int, float]:
    average = sum(values.values()) // len(values)
    return average, average / target_milli
