"""What a HorizontalPodAutoscaler asks for, read once (pure).

Source of the defaults: kubernetes `pkg/apis/autoscaling/v2/defaults.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.quantity import parse_quantity, to_milli
from gpuyard.kube.wellknown import ANNOTATION_SCALE_TO_ZERO

DEFAULT_TOLERANCE = 0.1
DEFAULT_DOWN_WINDOW_S = 300.0
MAX, MIN, DISABLED = "Max", "Min", "Disabled"
PODS, PERCENT = "Pods", "Percent"
_DURATION = re.compile(r"(?a)(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60


@dataclass(frozen=True)
class TargetMetric:
    """One metric of type Pods, and what a replica may have of it on average, in thousandths."""

    name: str
    target_milli: int


@dataclass(frozen=True)
class ScalingPolicy:
    """So many pods (`Pods`), or so many in a hundred (`Percent`), in each period."""

    type: str
    value: int
    period_s: float


@dataclass(frozen=True)
class ScalingRules:
    """How fast it may go in one direction.

    Attributes:
        window_s: a change is made when all that was proposed in so many seconds asks for it.
        select: which policy holds, the one that allows most, `Max`, or least, `Min`; `Disabled`: none.
        tolerance: how far the ratio of measured to wanted may be from 1 before something is done.
    """

    window_s: float
    select: str
    policies: tuple[ScalingPolicy, ...]
    tolerance: float = DEFAULT_TOLERANCE


_UP = ScalingRules(0.0, MAX, (ScalingPolicy(PODS, 4, 15.0), ScalingPolicy(PERCENT, 100, 15.0)))
_DOWN = ScalingRules(DEFAULT_DOWN_WINDOW_S, MAX, (ScalingPolicy(PERCENT, 100, 15.0),))


@dataclass(frozen=True)
class AutoscalerSpec:
    """What is asked for.

    Attributes:
        minimum, maximum: replicas that there are in any case, and at most.
        behavior: whether it has rules of its own; without, growth is limited by look and not by period.
        scale_to_zero_s: after so long without a request there are none; None where nothing is said.
    """

    minimum: int
    maximum: int
    metrics: tuple[TargetMetric, ...]
    behavior: bool = False
    up: ScalingRules = _UP
    down: ScalingRules = _DOWN
    scale_to_zero_s: float | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> AutoscalerSpec:
        """What an autoscaler that the API has accepted asks for; only metrics of type Pods are measured."""
        spec = manifest["spec"]
        behavior: Mapping[str, Any] = spec.get("behavior") or {}
        minimum = spec.get("minReplicas")
        return cls(
            minimum=1 if minimum is None else minimum,
            maximum=spec["maxReplicas"],
            metrics=tuple(
                TargetMetric(pods["metric"]["name"], to_milli(pods["target"]["averageValue"]))
                for metric in spec.get("metrics") or ()
                if (pods := metric.get("pods"))
            ),
            behavior=spec.get("behavior") is not None,
            up=_rules(behavior.get("scaleUp") or {}, _UP),
            down=_rules(behavior.get("scaleDown") or {}, _DOWN),
            scale_to_zero_s=duration_s(annotations_of(manifest).get(ANNOTATION_SCALE_TO_ZERO, "")),
        )


def duration_s(text: str) -> float | None:
    """Seconds of `90s`, `15m` or `1h30m`; None for what is none."""
    found = _DURATION.fullmatch(text.strip())
    if not text.strip() or found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(days * _DAY_S + hours * _HOUR_S + minutes * _MINUTE_S + seconds)


def _rules(raw: Mapping[str, Any], default: ScalingRules) -> ScalingRules:
    window, tolerance = raw.get("stabilizationWindowSeconds"), raw.get("tolerance")
    policies = tuple(
        ScalingPolicy(policy["type"], policy["value"], float(policy["periodSeconds"]))
        for policy in raw.get("policies") or ()
    )
    return ScalingRules(
        window_s=default.window_s if window is None else float(window),
        select=raw.get("selectPolicy") or default.select,
        policies=policies or default.policies,
        tolerance=default.tolerance if tolerance is None else float(parse_quantity(tolerance)),
    )
