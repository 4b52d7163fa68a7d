from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.kubelet.starting import limits_of
from gpuyard.local.runtime.values import Limits


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, Limits()),
        ({"cpu": "500m", "memory": "1Gi"}, Limits(500, 1 << 30)),
        # As in Kubernetes: no limit at all, not a limit of nothing.
        ({"cpu": "0", "memory": "0"}, Limits()),
    ],
)
def test_limits(limits: dict[str, Any], expected: Limits) -> None:
    assert limits_of({"name": "c", "resources": {"limits": limits}}) == expected
