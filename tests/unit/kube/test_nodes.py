from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.nodes import not_ready_text


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
