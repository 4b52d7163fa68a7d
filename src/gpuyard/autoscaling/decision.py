"""The decision: how many replicas a service gets now, and what its autoscaler says of it (pure).

It is that of Kubernetes' HorizontalPodAutoscaler controller, in its words. What a yard has on top is the
service without replicas: it wakes when a request waits, and sleeps after the time that its owner said.

Source: kubernetes `pkg/controller/podautoscaler/horizontal.go`, reconcileAutoscaler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuyard.autoscaling.limits import Limited, ScalingHistory, limit
from gpuyard.autoscaling.metrics import Measured, MetricProposal, propose
from gpuyard.autoscaling.reason import ScalingReason
from gpuyard.autoscaling.replicas import Proposal, Tolerance, Unmeasured
from gpuyard.autoscaling.spec import AutoscalerSpec

ABLE, ACTIVE, LIMITED, ASLEEP = "AbleToScale", "ScalingActive", "ScalingLimited", "ScaledToZero"
_ABOVE_MAX = "Current number of replicas above Spec.MaxReplicas"
_BELOW_MIN = "Current number of replicas below Spec.MinReplicas"
_BELOW_TARGET = "All metrics below target"
#: Ours, in the place of "pods metric … above target" and of "All metrics below target".
_WAITING = "a request waits"
_IDLE = "no request for as long as its owner said"


@dataclass(frozen=True)
class Said:
    """A condition's value, reason and message."""

    type: str
    true: bool
    reason: str
    message: str


@dataclass(frozen=True)
class ScalingDecision:
    """What is to be done.

    Attributes:
        replicas: how many there are to be.
        why: the reason of the event, for a change.
        said: the conditions, in the order in which they are set.
        proposals: what each metric asked for; empty where none was asked.
        failure: why no metric could say anything; empty where one could.
    """

    replicas: int
    why: str
    said: tuple[Said, ...]
    reason: ScalingReason
    history: ScalingHistory
    proposals: tuple[MetricProposal, ...] = ()
    failure: str = ""


def decide(
    spec: AutoscalerSpec, seen: Measured, history: ScalingHistory, now_s: float, *, slept: bool
) -> ScalingDecision:
    """How many replicas there are to be.

    Args:
        slept: whether a target without replicas has none because of this autoscaler; if somebody else wants
            none, it stays so.
        now_s: seconds of a clock that nobody sets.
    """
    current, history = seen.current, history.begun(seen.current, now_s)
    if current == 0 and not slept:
        disabled = "scaling is disabled since the replica count of the target is zero"
        said = Said(ACTIVE, False, "ScalingDisabled", disabled)
        return ScalingDecision(0, "", (said,), ScalingReason(0, 0, numbers=disabled), history)
    if current > spec.maximum:
        reason = ScalingReason(current, spec.maximum, limit=f"at most {spec.maximum} are allowed")
        return ScalingDecision(spec.maximum, _ABOVE_MAX, (), reason, history)
    if 0 < current < spec.minimum:
        reason = ScalingReason(spec.minimum, spec.minimum, numbers=f"at least {spec.minimum} are wanted")
        return ScalingDecision(spec.minimum, _BELOW_MIN, (), reason, history)
    floor = _fewest(spec, seen)
    tolerance = Tolerance.of(spec.down, spec.up)
    proposals = tuple(propose(metric, seen, tolerance) for metric in spec.metrics)
    if floor == 0 and (current == 0 or spec.scale_to_zero_s is not None):
        numbers = "no request waits" if current == 0 else f"no request for {_idle_s(seen):.0f} s"
        reason = ScalingReason(0, 0, numbers=numbers)
        return ScalingDecision(0, _IDLE if current else "", (), reason, history, proposals)
    return _by_metrics(spec, seen, history, proposals, floor, now_s)


def _fewest(spec: AutoscalerSpec, seen: Measured) -> int:
    """How many there are at least: with a minimum of none, one as long as somebody needs it."""
    if spec.minimum > 0:
        return spec.minimum
    if seen.load is None:
        # What isn't known neither wakes nor ends anything.
        return min(seen.current, 1)
    if seen.load.in_flight or seen.load.held:
        return 1
    if seen.current and seen.is_starting:
        # A model may load for longer than clients wait: it would never serve if it were put to sleep then.
        return 1
    if seen.current == 0 or spec.scale_to_zero_s is None:
        return 0
    return 1 if seen.load.idle_s < spec.scale_to_zero_s else 0


def _idle_s(seen: Measured) -> float:
    return seen.load.idle_s if seen.load is not None else 0.0


def _by_metrics(
    spec: AutoscalerSpec,
    seen: Measured,
    history: ScalingHistory,
    proposals: tuple[MetricProposal, ...],
    floor: int,
    now_s: float,
) -> ScalingDecision:
    """The most that a metric asks for, within the limits."""
    current = seen.current
    unknown = [one for one in proposals if isinstance(one.result, Unmeasured)]
    known = [(one.result.replicas, one) for one in proposals if isinstance(one.result, Proposal)]
    wanted, chosen = max(known, key=lambda pair: pair[0], default=(0, None))
    waking = current == 0 and floor > 0
    if (chosen is None or (unknown and wanted < current)) and not waking:
        return _unknown(seen, history, proposals, unknown)
    name = f"pods metric {chosen.metric.name}" if chosen else _WAITING
    active = f"the HPA was able to successfully calculate a replica count from {name}"
    limited = limit(spec, history, current, wanted, floor, now_s)
    replicas = max(limited.replicas, floor) if waking else limited.replicas
    said = (
        Said(ACTIVE, True, "ValidMetricFound", active),
        Said(ABLE, True, *limited.able),
        Said(LIMITED, limited.limited, *limited.scaling),
    )
    numbers = chosen.numbers if chosen else _WAITING
    reason = ScalingReason(
        wanted=max(wanted, floor) if waking else wanted,
        replicas=replicas,
        metric=chosen.metric.name if chosen else "",
        numbers=numbers,
        limit=_limit_text(spec, seen, limited, wanted, replicas, floor),
    )
    why = f"{name} above target" if wanted > current else _BELOW_TARGET if wanted < current else ""
    if waking and wanted <= current:
        why = _BELOW_MIN if spec.minimum else _WAITING
    return ScalingDecision(replicas, why, said, reason, limited.history, proposals)


def _unknown(
    seen: Measured,
    history: ScalingHistory,
    proposals: tuple[MetricProposal, ...],
    unknown: Sequence[MetricProposal],
) -> ScalingDecision:
    """Nothing is done on what isn't known."""
    if not unknown:
        failure = "the autoscaler has no metric that a yard measures"
    else:
        found = unknown[0]
        assert isinstance(found.result, Unmeasured)
        failure = found.result.why
    message = f"the HPA was unable to compute the replica count: {failure}"
    said = Said(ACTIVE, False, "FailedGetPodsMetric", message)
    reason = ScalingReason(None, seen.current, numbers=failure)
    return ScalingDecision(seen.current, "", (said,), reason, history, proposals, failure)


def _limit_text(
    spec: AutoscalerSpec, seen: Measured, limited: Limited, wanted: int, replicas: int, floor: int
) -> str:
    """What keeps it from what is wanted, in a few words."""
    if replicas == wanted:
        return ""
    if replicas == floor > spec.minimum and seen.is_starting:
        return "no replica is ready yet"
    if replicas > wanted and limited.able[0] == "ScaleDownStabilized":
        return f"more were wanted within the last {spec.down.window_s:.0f} s"
    if replicas < wanted and limited.able[0] == "ScaleUpStabilized":
        return f"fewer were wanted within the last {spec.up.window_s:.0f} s"
    match limited.scaling[0]:
        case "TooManyReplicas":
            return f"at most {spec.maximum} are allowed"
        case "TooFewReplicas":
            return f"at least {floor} are wanted"
    return "it changes no faster than its policies allow"


def done(decision: ScalingDecision, spec: AutoscalerSpec, before: int, now_s: float) -> ScalingHistory:
    """The history after the decision was carried out."""
    return decision.history.with_change(before, decision.replicas, spec, now_s)


def asleep(decision: ScalingDecision, before: int) -> Said:
    """Whether a target without replicas has none because of the autoscaler: it alone may wake it then."""
    if decision.replicas == 0 and before > 0:
        return Said(ASLEEP, True, "ScaledToZero", "the HPA controller scaled the workload to zero")
    return Said(ASLEEP, False, "NotScaledToZero", "the HPA controller did not scale the workload to zero")
