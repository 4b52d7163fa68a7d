"""Deployments and ReplicaSets on their way into the yard."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gpuyard.local.objects.kinds.apps.deployment import DEPLOYMENT
from gpuyard.local.objects.kinds.apps.replica_set import REPLICA_SET
from gpuyard.local.objects.kinds.kind import CreateContext, KindSpec

from ..conftest import create, update


def replicated(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    }
    wanted = {"selector": {"matchLabels": {"app": "a"}}, "template": template}
    return {"metadata": {"name": "d", "namespace": "default"}, "spec": {**wanted, **spec}}


def rolling(surge: int | str, unavailable: int | str) -> dict[str, Any]:
    return {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}


def test_a_deployment_is_completed() -> None:
    one, found = create(DEPLOYMENT, replicated())
    assert found == []
    spec = one["spec"]
    assert {name: spec[name] for name in spec if name not in ("template", "selector")} == {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }
    assert spec["template"]["spec"]["restartPolicy"] == "Always"


@pytest.mark.parametrize("kind", [DEPLOYMENT, REPLICA_SET], ids=lambda kind: kind.resource.kind)
@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"replicas": -1}, ["spec.replicas"]),
        ({"minReadySeconds": -1}, ["spec.minReadySeconds"]),
        ({"selector": None}, ["spec.selector"]),
        ({"selector": {}}, ["spec.selector"]),
        ({"selector": {"matchLabels": {"app": "b"}}}, ["spec.template.metadata.labels"]),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}},
            ["spec.selector.matchExpressions[0].operator", "spec.selector"],
        ),
        (
            {"selector": {"matchExpressions": [{"key": "app", "operator": "In"}]}},
            ["spec.selector.matchExpressions[0].values", "spec.selector"],
        ),
    ],
)
def test_rules_of_both(kind: KindSpec, spec: dict[str, Any], wrong: list[str]) -> None:
    _, found = create(kind, replicated(**spec))
    assert [error.path for error in found] == wrong


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        (rolling(0, 0), ["spec.strategy.rollingUpdate.maxUnavailable"]),
        (rolling("0%", 0), ["spec.strategy.rollingUpdate.maxUnavailable"]),
        (rolling(0, "101%"), ["spec.strategy.rollingUpdate.maxUnavailable"]),
        (rolling("half", 1), ["spec.strategy.rollingUpdate.maxSurge"]),
        (rolling(-1, 1), ["spec.strategy.rollingUpdate.maxSurge"]),
        ({"strategy": {"type": "Recreate"}}, []),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {}}},
            ["spec.strategy.rollingUpdate"],
        ),
        ({"strategy": {"type": "Sideways"}}, ["spec.strategy"]),
        ({"progressDeadlineSeconds": 5, "minReadySeconds": 5}, ["spec.progressDeadlineSeconds"]),
        ({"revisionHistoryLimit": -1}, ["spec.revisionHistoryLimit"]),
    ],
)
def test_rules_of_deployments(spec: dict[str, Any], wrong: list[str]) -> None:
    _, found = create(DEPLOYMENT, replicated(**spec))
    assert [error.path for error in found] == wrong


def test_pods_that_end_by_themselves_are_none_of_theirs() -> None:
    wanted = replicated()
    wanted["spec"]["template"]["spec"] |= {"restartPolicy": "Never", "activeDeadlineSeconds": 5}
    _, found = create(REPLICA_SET, wanted)
    assert [error.path for error in found] == [
        "spec.template.spec.restartPolicy",
        "spec.template.spec.activeDeadlineSeconds",
    ]


def test_the_selector_stays_and_annotations_count_as_a_change() -> None:
    old, _ = create(DEPLOYMENT, replicated())
    old["metadata"]["generation"] = 3
    changed = copy.deepcopy(old)
    changed["spec"]["selector"] = {"matchLabels": {"app": "a", "b": "c"}}
    assert "spec.selector" in [error.path for error in update(DEPLOYMENT, old, changed)]
    noted = copy.deepcopy(old)
    noted["metadata"]["annotations"] = {"kubernetes.io/change-cause": "why"}
    DEPLOYMENT.prepare_update(noted, old)
    assert noted["metadata"]["generation"] == 4


def test_a_status_counts_no_more_than_there_are() -> None:
    old, _ = create(DEPLOYMENT, replicated())
    old["status"] = {"collisionCount": 2}
    changed = {**old, "status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}}
    assert [error.path for error in update(DEPLOYMENT, old, changed)] == [
        "status.readyReplicas",
        "status.availableReplicas",
        "status.availableReplicas",
        "status.collisionCount",
    ]


def test_images_that_the_yard_cannot_run_are_refused_before_there_are_pods() -> None:
    context = CreateContext(no_images=lambda: "podman isn't there")
    with pytest.raises(Exception, match=r"spec\.template\.spec\.runtimeClassName: Required value"):
        create(DEPLOYMENT, replicated(), context)
