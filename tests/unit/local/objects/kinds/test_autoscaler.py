"""HorizontalPodAutoscalers on their way into the yard."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gpuyard.autoscaling.spec import AutoscalerSpec
from gpuyard.kube.wellknown import ANNOTATION_SCALE_TO_ZERO, METRIC_IN_FLIGHT, METRIC_P99
from gpuyard.local.objects.kinds.autoscaler import AUTOSCALER

from .conftest import create, update

WEB = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
UP = {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 30}]}


def pods(name: str = METRIC_IN_FLIGHT, value: str | None = "4", **source: Any) -> dict[str, Any]:
    target = {"type": "AverageValue", **({"averageValue": value} if value is not None else {})}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target, **source}}


def an_autoscaler(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "default", "annotations": annotations or {}}
    wanted = {"scaleTargetRef": WEB, "minReplicas": 1, "maxReplicas": 8, "metrics": [pods()]}
    return {"metadata": metadata, "spec": {**wanted, **spec}}


def test_it_is_completed() -> None:
    given = an_autoscaler(behavior={"scaleUp": UP})
    del given["spec"]["minReplicas"]
    one, found = create(AUTOSCALER, given)
    assert found == []
    assert one["spec"]["minReplicas"] == 1
    assert one["spec"]["behavior"] == {
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", **UP},
        "scaleDown": {
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
    }
    assert one["status"] == {"desiredReplicas": 0}
    assert AutoscalerSpec.of(one).down.window_s == 300


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({}, []),
        ({"metrics": [pods(), pods(METRIC_P99, "800m")]}, []),
        ({"minReplicas": 0}, []),
        ({"minReplicas": -1}, ["spec.minReplicas"]),
        ({"maxReplicas": 0}, ["spec.maxReplicas", "spec.maxReplicas"]),
        ({"minReplicas": 9}, ["spec.maxReplicas"]),
        ({"scaleTargetRef": {}}, [f"spec.scaleTargetRef.{name}" for name in ("kind", "name", "apiVersion")]),
        ({"scaleTargetRef": {**WEB, "apiVersion": "v1"}}, ["spec.scaleTargetRef.apiVersion"]),
        ({"scaleTargetRef": {**WEB, "apiVersion": "a/b/c"}}, ["spec.scaleTargetRef.apiVersion"]),
        ({"scaleTargetRef": {**WEB, "name": "a/b"}}, ["spec.scaleTargetRef.name"]),
        ({"metrics": [{}]}, ["spec.metrics[0].type", "spec.metrics[0].type"]),
        ({"metrics": [{"type": "Pods"}]}, ["spec.metrics[0].pods"]),
        ({"metrics": [{**pods(), "type": "Object"}]}, ["spec.metrics[0].object"]),
        (
            {"metrics": [{**pods(), "resource": {"name": "cpu", "target": {"type": "Value"}}}]},
            ["spec.metrics[0].resource"],
        ),
        ({"metrics": [pods(value="0")]}, ["spec.metrics[0].pods.target.averageValue"]),
        ({"metrics": [pods(value=None)]}, ["spec.metrics[0].pods.target.averageValue"]),
        ({"metrics": [pods(metric={})]}, ["spec.metrics[0].pods.metric.name"]),
        (
            {"metrics": [pods(target={})]},
            [f"spec.metrics[0].pods.target.{n}" for n in ("type", "type", "averageValue")],
        ),
        (
            {"behavior": {"scaleUp": {"policies": []}}},
            ["spec.behavior.scaleUp.policies"],
        ),
        (
            {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3601, "selectPolicy": "Mean"}}},
            ["spec.behavior.scaleDown.stabilizationWindowSeconds", "spec.behavior.scaleDown.selectPolicy"],
        ),
        (
            {"behavior": {"scaleDown": {"stabilizationWindowSeconds": -1, "tolerance": "-1"}}},
            [f"spec.behavior.scaleDown.{n}" for n in ("stabilizationWindowSeconds", "tolerance")],
        ),
        (
            {"behavior": {"scaleUp": {"policies": [{"type": "Cats", "value": 0, "periodSeconds": 1801}]}}},
            [f"spec.behavior.scaleUp.policies[0].{name}" for name in ("type", "value", "periodSeconds")],
        ),
    ],
)
def test_rules_of_kubernetes(spec: dict[str, Any], wrong: list[str]) -> None:
    _, found = create(AUTOSCALER, an_autoscaler(**spec))
    assert [error.path for error in found] == wrong


SELECTED = {"name": METRIC_P99, "selector": {"matchLabels": {"a": "b"}}}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}


@pytest.mark.parametrize(
    ("given", "path", "word"),
    [
        (an_autoscaler(metrics=[]), "spec.metrics[0].type", "take a metric of type Pods"),
        (an_autoscaler(metrics=[CPU]), "spec.metrics[0].type", METRIC_IN_FLIGHT),
        (an_autoscaler(metrics=[pods("qps")]), "spec.metrics[0].pods.metric.name", METRIC_P99),
        (
            an_autoscaler(
                metrics=[pods(metric={"name": METRIC_P99, "selector": {"matchLabels": {"a": "b"}}})]
            ),
            "spec.metrics[0].pods.metric.selector",
            "needs no selector",
        ),
        (
            an_autoscaler(scaleTargetRef={**WEB, "kind": "StatefulSet"}),
            "spec.scaleTargetRef",
            "Deployments and ReplicaSets",
        ),
        (
            an_autoscaler({ANNOTATION_SCALE_TO_ZERO: "soon"}, minReplicas=0),
            f"metadata.annotations[{ANNOTATION_SCALE_TO_ZERO}]",
            "such as 90s",
        ),
        (
            an_autoscaler({ANNOTATION_SCALE_TO_ZERO: "15m"}),
            f"metadata.annotations[{ANNOTATION_SCALE_TO_ZERO}]",
            "minReplicas: 0",
        ),
    ],
)
def test_what_a_yard_cannot_do(given: dict[str, Any], path: str, word: str) -> None:
    _, found = create(AUTOSCALER, given)
    assert [(error.path, word in error.message) for error in found] == [(path, True)]


def test_what_was_accepted_may_stay() -> None:
    old, _ = create(AUTOSCALER, an_autoscaler())
    old["spec"]["scaleTargetRef"] = {**WEB, "apiVersion": "apps"}
    new = copy.deepcopy(old)
    new["spec"]["maxReplicas"] = 3
    assert [error.path for error in update(AUTOSCALER, old, new)] == ["spec.scaleTargetRef"]


def test_counts_of_its_status_are_not_negative() -> None:
    old, _ = create(AUTOSCALER, an_autoscaler())
    wrong = {"currentReplicas": -1, "desiredReplicas": -1}
    found = update(AUTOSCALER, old, {**old, "status": wrong})
    assert [error.path for error in found] == ["status.currentReplicas", "status.desiredReplicas"]
