from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.objects.kinds.disruption_budget import DISRUPTION_BUDGET

from .conftest import create


def budget(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": spec}


def test_it_is_completed() -> None:
    given = {**budget(minAvailable=1), "status": {"disruptionsAllowed": 5}}
    one, found = create(DISRUPTION_BUDGET, given)
    assert found == []
    assert one["status"] == {}
    DISRUPTION_BUDGET.default(one)
    assert one["status"] == {
        "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"minAvailable": "50%", "selector": {}}, []),
        ({"maxUnavailable": 0, "unhealthyPodEvictionPolicy": "AlwaysAllow"}, []),
        ({"minAvailable": 1, "maxUnavailable": 1}, ["spec"]),
        ({"minAvailable": -1}, ["spec.minAvailable"]),
        ({"minAvailable": "half"}, ["spec.minAvailable"]),
        ({"maxUnavailable": "101%"}, ["spec.maxUnavailable"]),
        ({"selector": {"matchLabels": {"a": "b c"}}}, ["spec.selector.matchLabels"]),
        (
            {"selector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
            ["spec.selector.matchExpressions[0].operator"],
        ),
        ({"unhealthyPodEvictionPolicy": "Never"}, ["spec.unhealthyPodEvictionPolicy"]),
    ],
)
def test_kubernetes_rules(spec: dict[str, Any], wrong: list[str]) -> None:
    _, found = create(DISRUPTION_BUDGET, budget(**spec))
    assert [error.path for error in found] == wrong
