"""ResourceQuotas, as the doctor and `explain` both read them."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.scheduling.quota import QuotaLimit, counted, in_scope, is_scoped, quota_limits


def quota(spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "q"}, "spec": spec, "status": status}


def test_limits_have_the_units_of_requests() -> None:
    hard = {
        "requests.cpu": "1500m",
        "requests.memory": "1Gi",
        "requests.nvidia.com/gpu": "8",
        "count/jobs": 3,
    }
    found = quota_limits(quota({"hard": hard}, hard=hard, used={"requests.cpu": "2", "pods": "1"}))
    assert found == (
        QuotaLimit("requests.cpu", 1500, 2000),
        QuotaLimit("requests.memory", 2**30, 0),
        QuotaLimit("requests.nvidia.com/gpu", 8, 0),
        QuotaLimit("count/jobs", 3, 0),
    )
    assert [limit.free for limit in found] == [0, 2**30, 8, 3]
    assert [limit.resource for limit in found] == ["cpu", "memory", "nvidia.com/gpu", "jobs"]


def test_the_status_is_what_is_enforced() -> None:
    changed = quota({"hard": {"pods": "9"}}, hard={"pods": "4"})
    assert quota_limits(changed) == (QuotaLimit("pods", 4, 0),)
    assert quota_limits({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "9"}}})[0].hard == 9


@pytest.mark.parametrize(
    ("key", "amount"),
    [
        ("pods", 1),
        ("count/pods", 1),
        ("cpu", 500),
        ("limits.cpu", 1000),
        ("requests.cpu", 500),
        ("services", 0),
    ],
)
def test_what_a_pod_takes(key: str, amount: int) -> None:
    resources = {"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}
    assert counted(key, {"containers": [{"name": "c", "resources": resources}]}) == amount


def test_scopes() -> None:
    pod: dict[str, Any] = {"containers": [{"name": "c"}]}
    assert is_scoped(quota({"scopes": ["BestEffort"]})) and not is_scoped(quota({}))
    assert in_scope(quota({"scopes": ["BestEffort"]}), pod)
    assert not in_scope(quota({"scopes": ["Terminating"]}), pod)
    selector = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}
    assert in_scope(quota({"scopeSelector": selector}), {**pod, "priorityClassName": "high"})
    assert not in_scope(quota({"scopeSelector": selector}), pod)
