"""What an autoscaler asks for."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.autoscaling.spec import AutoscalerSpec, ScalingPolicy, TargetMetric, duration_s
from gpuyard.kube.wellknown import ANNOTATION_SCALE_TO_ZERO, METRIC_IN_FLIGHT


def an_autoscaler(**spec: Any) -> dict[str, Any]:
    pods = {"metric": {"name": METRIC_IN_FLIGHT}, "target": {"type": "AverageValue", "averageValue": "2500m"}}
    wanted = {"minReplicas": 1, "maxReplicas": 8, "metrics": [{"type": "Pods", "pods": pods}]}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {**wanted, **spec}}


def test_defaults_are_those_of_kubernetes() -> None:
    spec = AutoscalerSpec.of(an_autoscaler())
    assert (spec.minimum, spec.maximum, spec.behavior) == (1, 8, False)
    assert spec.metrics == (TargetMetric(METRIC_IN_FLIGHT, 2500),)
    assert (spec.up.window_s, spec.down.window_s) == (0, 300)
    assert spec.up.policies == (ScalingPolicy("Pods", 4, 15), ScalingPolicy("Percent", 100, 15))
    assert (spec.up.tolerance, spec.scale_to_zero_s) == (0.1, None)


def test_what_is_said_holds() -> None:
    down = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Min",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        "tolerance": "50m",
    }
    manifest = an_autoscaler(minReplicas=0, behavior={"scaleDown": down})
    manifest["metadata"]["annotations"] = {ANNOTATION_SCALE_TO_ZERO: "15m"}
    spec = AutoscalerSpec.of(manifest)
    assert (spec.minimum, spec.scale_to_zero_s, spec.behavior) == (0, 900, True)
    assert (spec.down.window_s, spec.down.select, spec.down.tolerance) == (0, "Min", 0.05)
    assert spec.down.policies == (ScalingPolicy("Pods", 1, 60),)
    assert spec.up.policies[0].value == 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("", None),
        ("soon", None),
        ("15", None),
        ("9" * 400 + "s", None),
        ("9" * 5000 + "s", None),
        ("٣s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration_s(text) == seconds
