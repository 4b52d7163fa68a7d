"""How far and how fast it may go: bounds, windows and policies, as Kubernetes has them (pure).

Source: kubernetes `pkg/controller/podautoscaler/horizontal.go`, normalizeDesiredReplicas and
normalizeDesiredReplicasWithBehaviors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuyard.autoscaling.spec import (
    DEFAULT_DOWN_WINDOW_S,
    DISABLED,
    MIN,
    PODS,
    AutoscalerSpec,
    ScalingPolicy,
    ScalingRules,
)

_GROWTH_FACTOR, _GROWTH_AT_LEAST = 2, 4
_LOWEST = "recent recommendations were lower than current one, applying the lowest recent recommendation"
_HIGHEST = "recent recommendations were higher than current one, applying the highest recent recommendation"
_TOO_FAST = "the desired replica count is {} faster than the maximum scale rate"
_TOO_MANY = "the desired replica count is more than the maximum replica count"
_TOO_FEW = "the desired replica count is less than the minimum replica count"


@dataclass(frozen=True)
class ScalingHistory:
    """What was proposed and done, with the seconds of a clock that nobody sets.

    It is kept in memory alone, as Kubernetes does: after a restart fewer replicas are wanted only when a
    whole window has been watched again.
    """

    proposed: tuple[tuple[float, int], ...] = ()
    added: tuple[tuple[float, int], ...] = ()
    removed: tuple[tuple[float, int], ...] = ()

    def begun(self, current: int, now_s: float) -> ScalingHistory:
        """With what there is as the first proposal."""
        return self if self.proposed else replace(self, proposed=((now_s, current),))

    def with_proposal(self, wanted: int, window_s: float, now_s: float) -> ScalingHistory:
        """With one more, and without those that no window reaches any more."""
        kept = tuple(one for one in self.proposed if one[0] >= now_s - window_s)
        return replace(self, proposed=(*kept, (now_s, wanted)))

    def with_change(self, before: int, after: int, spec: AutoscalerSpec, now_s: float) -> ScalingHistory:
        """With a change that was made; policies count those in their period."""
        if after == before or not spec.behavior:
            return self
        rules = spec.up if after > before else spec.down
        longest_s = max(policy.period_s for policy in rules.policies)
        old = self.added if after > before else self.removed
        new = (*(one for one in old if one[0] >= now_s - longest_s), (now_s, abs(after - before)))
        return replace(self, added=new) if after > before else replace(self, removed=new)


@dataclass(frozen=True)
class Limited:
    """What may be done of what was proposed.

    Attributes:
        able, scaling: reason and message of the conditions AbleToScale and ScalingLimited.
        limited: whether ScalingLimited is true.
    """

    replicas: int
    able: tuple[str, str]
    scaling: tuple[str, str]
    limited: bool
    history: ScalingHistory


def limit(
    spec: AutoscalerSpec, history: ScalingHistory, current: int, wanted: int, minimum: int, now_s: float
) -> Limited:
    """Holds a proposal back by the windows, then by the bounds and the policies."""
    if spec.behavior:
        steady, reason = _steady_by_rules(spec, history, current, wanted, now_s)
        window_s = max(spec.up.window_s, spec.down.window_s)
        replicas, scaling = _allowed_by_rules(spec, history, current, steady, minimum, now_s)
    else:
        window_s = DEFAULT_DOWN_WINDOW_S
        recent = [one for at_s, one in history.proposed if at_s >= now_s - window_s]
        steady, reason = max([wanted, *recent]), ("ScaleDownStabilized", _HIGHEST)
        replicas, scaling = _allowed(current, steady, minimum, spec.maximum)
    able = reason if steady != wanted else ("ReadyForNewScale", "recommended size matches current size")
    after = history.with_proposal(wanted, window_s, now_s)
    return Limited(replicas, able, scaling, replicas != steady, after)


def _steady_by_rules(
    spec: AutoscalerSpec, history: ScalingHistory, current: int, wanted: int, now_s: float
) -> tuple[int, tuple[str, str]]:
    lowest = min([wanted, *(one for at_s, one in history.proposed if at_s > now_s - spec.up.window_s)])
    highest = max([wanted, *(one for at_s, one in history.proposed if at_s > now_s - spec.down.window_s)])
    up = wanted >= current
    reason = ("ScaleUpStabilized", _LOWEST) if up else ("ScaleDownStabilized", _HIGHEST)
    return min(max(current, lowest), highest), reason


def _allowed_by_rules(
    spec: AutoscalerSpec, history: ScalingHistory, current: int, wanted: int, minimum: int, now_s: float
) -> tuple[int, tuple[str, str]]:
    if wanted > current:
        ceiling = max(_ceiling(spec.up, history, current, now_s), current)
        if wanted > min(ceiling, spec.maximum):
            if spec.maximum > ceiling:
                return ceiling, ("ScaleUpLimit", _TOO_FAST.format("increasing"))
            return spec.maximum, ("TooManyReplicas", _TOO_MANY)
    elif wanted < current:
        floor = min(_floor(spec.down, history, current, now_s), current)
        if wanted < max(floor, minimum):
            if minimum < floor:
                return floor, ("ScaleDownLimit", _TOO_FAST.format("decreasing"))
            return minimum, ("TooFewReplicas", _TOO_FEW)
    return wanted, _WITHIN


_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")


def _allowed(current: int, wanted: int, minimum: int, maximum: int) -> tuple[int, tuple[str, str]]:
    """Without rules growth is limited from one look to the next."""
    ceiling = max(_GROWTH_FACTOR * current, _GROWTH_AT_LEAST)
    if wanted < minimum:
        return minimum, ("TooFewReplicas", _TOO_FEW)
    if wanted > min(ceiling, maximum):
        if maximum > ceiling:
            return ceiling, ("ScaleUpLimit", _TOO_FAST.format("increasing"))
        return maximum, ("TooManyReplicas", _TOO_MANY)
    return wanted, _WITHIN


def _ceiling(rules: ScalingRules, history: ScalingHistory, current: int, now_s: float) -> int:
    """The most that the policies allow."""
    if rules.select == DISABLED:
        return current

    def one(policy: ScalingPolicy) -> int:
        before = _at_start(policy, history, current, now_s)
        if policy.type == PODS:
            return before + policy.value
        return math.ceil(before * (1 + policy.value / 100))

    allowed = [one(policy) for policy in rules.policies]
    return min(allowed) if rules.select == MIN else max(allowed)


def _floor(rules: ScalingRules, history: ScalingHistory, current: int, now_s: float) -> int:
    """The fewest that the policies allow."""
    if rules.select == DISABLED:
        return current

    def one(policy: ScalingPolicy) -> int:
        before = _at_start(policy, history, current, now_s)
        if policy.type == PODS:
            return before - policy.value
        return int(before * (1 - policy.value / 100))

    allowed = [one(policy) for policy in rules.policies]
    return max(allowed) if rules.select == MIN else min(allowed)


def _at_start(policy: ScalingPolicy, history: ScalingHistory, current: int, now_s: float) -> int:
    """How many there were when the policy's period began."""
    since_s = now_s - policy.period_s
    return current - _changed(history.added, since_s) + _changed(history.removed, since_s)


def _changed(changes: Sequence[tuple[float, int]], since_s: float) -> int:
    return sum(count for at_s, count in changes if at_s > since_s)
