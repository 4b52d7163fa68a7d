"""The decision against what Kubernetes' own controller decided, look by look.

recorded.json is written by tools/autoscaler/record. Each of its autoscalers has rules, a target and a load of
its own, drawn at random: pods that start, that leave, and whose metric is unknown.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpuyard.autoscaling.decision import ABLE, ASLEEP, decide, done
from gpuyard.autoscaling.limits import ScalingHistory
from gpuyard.autoscaling.metrics import Measured
from gpuyard.autoscaling.replicas import ScaledPod
from gpuyard.autoscaling.spec import AutoscalerSpec
from gpuyard.kube.wellknown import METRIC_GPU_UTILIZATION

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "recorded.json").read_text())


def spec_of(recording: dict[str, Any]) -> AutoscalerSpec:
    """With the metric that has a value for each pod as it was recorded."""
    (metric,) = recording["spec"]["metrics"]
    metric["pods"]["metric"]["name"] = METRIC_GPU_UTILIZATION
    return AutoscalerSpec.of({"metadata": {}, "spec": recording["spec"]})


def seen_at(look: dict[str, Any]) -> Measured:
    pods = [
        ScaledPod(name, leaving=state == "L", pending=state == "P", ready=state == "R")
        for name, state, _ in look["pods"]
    ]
    values = {name: milli / 1000 for name, _, milli in look["pods"] if milli is not None}
    return Measured(look["current"], pods, load=None, utilization=values)


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_it_decides_as_kubernetes_does(number: int) -> None:
    recording = RECORDED[number]
    spec, history = spec_of(recording), ScalingHistory()
    conditions: dict[str, tuple[str, str]] = {}
    for look in recording["looks"]:
        decision = decide(spec, seen_at(look), history, look["at_s"], slept=False)
        history = done(decision, spec, look["current"], look["at_s"])
        changes = decision.replicas != look["current"]
        conditions[ABLE] = ("True", "SucceededGetScale")
        conditions |= {one.type: ("True" if one.true else "False", one.reason) for one in decision.said}
        if changes:
            conditions[ABLE] = ("True", "SucceededRescale")
        recorded = {
            type_: (status, reason) for type_, status, reason in look["conditions"] if type_ != ASLEEP
        }
        assert (decision.replicas, conditions) == (look["replicas"], recorded), look
        if changes:
            assert decision.why.replace(
                METRIC_GPU_UTILIZATION, "gpuyard_service_requests_in_flight"
            ) == look.get("reason", "")


def test_the_recordings_have_what_matters() -> None:
    looks = [look for recording in RECORDED for look in recording["looks"]]
    reasons = {reason for look in looks for _, _, reason in look["conditions"]}
    assert reasons >= {
        *("ScaleUpStabilized", "ScaleDownStabilized", "ScaleUpLimit", "ScaleDownLimit", "TooManyReplicas"),
        *("TooFewReplicas", "FailedGetPodsMetric", "SucceededRescale", "DesiredWithinRange"),
    }
    states = {state for look in looks for _, state, _ in look["pods"]}
    assert states == {"R", "P", "L"}
