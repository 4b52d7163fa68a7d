from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.pods import container_statuses, is_terminal, listening_port, why_not_running
from gpuyard.kube.wellknown import ANNOTATION_PORTS


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


@pytest.mark.parametrize(("started", "why"), [(True, ""), (False, "plugin isn't ready Startup probe failed")])
def test_what_has_begun_and_is_not_ready(started: bool, why: str) -> None:
    statuses = [{"name": "plugin", "state": {"running": {}}, "started": started}]
    pod = {"metadata": {"uid": "u"}, "status": {"phase": "Running", "containerStatuses": statuses}}
    event = {"type": "Warning", "involvedObject": {"uid": "u"}, "message": "Startup probe failed"}
    assert why_not_running(pod, [event]) == why


@pytest.mark.parametrize(
    ("written", "port"),
    [
        ('{"8000": 41234}', 41234),
        ('{"9000": 41234}', 8000),
        ("", 8000),
        ("{", 8000),
        ("[1]", 8000),
        ("null", 8000),
        ('{"8000": "41234"}', 8000),
        ('{"8000": true}', 8000),
        ('{"8000": 0}', 8000),
        ('{"8000": 70000}', 8000),
    ],
)
def test_a_free_port_stands_in_for_a_container_s(written: str, port: int) -> None:
    assert listening_port({"metadata": {"annotations": {ANNOTATION_PORTS: written}}}, 8000) == port
