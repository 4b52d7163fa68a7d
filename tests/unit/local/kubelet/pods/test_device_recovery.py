from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gpuyard.local.kubelet.pods.device_recovery import told_devices

A, B = "example.com/a", "example.com/b"


def _pod(told: str, *limits: Mapping[str, str]) -> dict[str, Any]:
    containers = [{"name": f"c{n}", "resources": {"limits": dict(one)}} for n, one in enumerate(limits)]
    return {"metadata": {"annotations": {"gpuyard.io/devices": told}}, "spec": {"containers": containers}}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_pod("", {A: "1"}), {}),
        (_pod("x", {"cpu": "1"}), {}),
        (_pod("y,x", {A: "2"}), {"c0": {A: ("x", "y")}}),
        (_pod("x,y,z", {A: "1"}, {}, {A: "2"}), {"c0": {A: ("x",)}, "c2": {A: ("y", "z")}}),
        # One more than was asked for was an init container's.
        (_pod("x,y", {A: "1"}), {"c0": {A: ("x", "y")}}),
        (_pod("x,y", {A: "1", B: "1"}), {"c0": {A: ("x", "y"), B: ("x", "y")}}),
    ],
)
def test_who_holds_what(pod: dict[str, Any], expected: Mapping[str, Any]) -> None:
    assert told_devices(pod) == expected
