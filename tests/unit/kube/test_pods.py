from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.pods import container_statuses, is_terminal


@pytest.mark.parametrize(
    ("pod", "over"),
    [
        ({}, False),
        ({"status": None}, False),
        *(({"status": {"phase": phase}}, False) for phase in ("Pending", "Running", "Unknown")),
        *(({"status": {"phase": phase}}, True) for phase in ("Succeeded", "Failed")),
    ],
)
def test_what_has_ended_for_good(pod: dict[str, Any], over: bool) -> None:
    assert is_terminal(pod) is over


def test_init_containers_come_first_and_only_when_asked_for() -> None:
    pod = {"status": {"containerStatuses": [{"name": "main"}], "initContainerStatuses": [{"name": "init"}]}}
    assert [one["name"] for one in container_statuses(pod)] == ["main"]
    assert [one["name"] for one in container_statuses(pod, init=True)] == ["init", "main"]
    assert list(container_statuses({"status": {"containerStatuses": None}}, init=True)) == []
