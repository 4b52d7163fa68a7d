from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.nodes import DaemonMisfit, daemon_misfit, not_ready_text, parse_toleration


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (None, "not ready: its kubelet hasn't reported yet"),
        ({"status": "True"}, ""),
        (
            {
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": "2026-01-31T12:03:00Z",
            },
            "not ready since 2026-01-31 12:03:00 UTC: the kubelet fell silent",
        ),
        ({"status": "False", "message": "no network"}, "not ready: no network"),
        ({"status": "False"}, "not ready"),
    ],
)
def test_why_a_node_is_not_ready(condition: dict[str, Any] | None, text: str) -> None:
    conditions = [{"type": "Ready", **condition}] if condition else []
    assert not_ready_text({"metadata": {"name": "a"}, "status": {"conditions": conditions}}) == text


@pytest.mark.parametrize(
    ("text", "toleration"),
    [
        ("sku", {"key": "sku", "operator": "Exists"}),
        ("sku=gpu", {"key": "sku", "operator": "Equal", "value": "gpu"}),
        ("sku=gpu:NoSchedule", {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}),
        ("a.b/c:NoExecute", {"key": "a.b/c", "operator": "Exists", "effect": "NoExecute"}),
        ("=gpu", None),
        ("", None),
        ("a:b:c", None),
    ],
)
def test_tolerations_are_written_as_taints(text: str, toleration: dict[str, str] | None) -> None:
    assert parse_toleration(text) == toleration


SKU = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("labels", "taints", "pod", "misfit"),
    [
        ({"gpu": "yes"}, [], {"nodeSelector": {"gpu": "yes"}}, DaemonMisfit()),
        ({"gpu": "no"}, [], {"nodeSelector": {"gpu": "yes"}}, DaemonMisfit(labels=("gpu=yes",))),
        ({}, [SKU], {}, DaemonMisfit(taints=(SKU,))),
        ({}, [SKU], {"tolerations": [{"key": "sku", "operator": "Exists"}]}, DaemonMisfit()),
        ({}, [SKU], {"tolerations": [{"operator": "Exists"}]}, DaemonMisfit()),
        ({}, [SKU | {"effect": "PreferNoSchedule"}], {}, DaemonMisfit()),
        # What the controller tolerates for every DaemonSet.
        ({}, [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}], {}, DaemonMisfit()),
    ],
)
def test_where_a_daemon_set_has_no_pod(
    labels: dict[str, str], taints: list[Any], pod: dict[str, Any], misfit: DaemonMisfit
) -> None:
    node = {"metadata": {"name": "a", "labels": labels}, "spec": {"taints": taints}}
    assert daemon_misfit(node, pod) == misfit
