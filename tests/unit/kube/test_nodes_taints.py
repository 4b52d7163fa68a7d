from __future__ import annotations

import pytest

from gpuyard.kube.nodes import format_taint, tolerates

TAINT = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "ml"}, True),
        ({"key": "dedicated", "operator": "Equal", "value": "ml", "effect": ""}, True),
        ({"key": "dedicated", "operator": "", "value": "ml"}, True),
        ({"key": "dedicated", "value": "web"}, False),
        ({"key": "dedicated"}, False),
        ({"value": "ml"}, False),
        ({}, False),
    ],
)
def test_tolerates(toleration: dict[str, str], covers: bool) -> None:
    assert tolerates(toleration, TAINT) is covers


def test_a_taint_without_value() -> None:
    taint = {"key": "spot", "effect": "NoExecute"}
    assert tolerates({"key": "spot"}, taint)
    assert tolerates({"key": "spot", "value": ""}, taint)
    assert not tolerates({"key": "spot", "value": "x"}, taint)


@pytest.mark.parametrize(
    ("taint", "text"),
    [(TAINT, "dedicated=ml:NoSchedule"), ({"key": "spot", "effect": "NoExecute"}, "spot:NoExecute")],
)
def test_format(taint: dict[str, str], text: str) -> None:
    assert format_taint(taint) == text
