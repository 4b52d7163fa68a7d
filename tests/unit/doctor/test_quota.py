"""What a namespace's quotas leave."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.doctor.check import Check, CheckState
from gpuyard.doctor.quota import judge
from gpuyard.kube.objects import Manifest

GPUS = "requests.nvidia.com/gpu"


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> Manifest:
    return {
        "metadata": {"name": "q", "namespace": "team"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used or {}},
    }


def limits(kind: str = "Container", **given: dict[str, str]) -> Manifest:
    return {"metadata": {"name": "l"}, "spec": {"limits": [{"type": kind, **given}]}}


def look(*quotas: Manifest, ranges: tuple[Manifest, ...] = ()) -> Check:
    return judge(quotas, ranges, "team")


def test_none() -> None:
    assert look().message == "team has none"


def test_what_is_left() -> None:
    found = look(quota({GPUS: "8"}, {GPUS: "3"}))
    assert (found.outcome, found.message) == (CheckState.OK, "q leaves 5 of 8 GPUs")
    assert look(quota({"pods": "8"}, {"pods": "3"})).message == "team has one, and not of GPUs"
    scoped = quota({GPUS: "8"}, scopes=["Terminating"])
    assert look(scoped).message == "q leaves 8 of 8 GPUs (of some pods only)"


def test_what_is_used_up() -> None:
    found = look(quota({GPUS: "4", "pods": "10"}, {GPUS: "4", "pods": "10"}))
    assert found.outcome is CheckState.WARNING
    assert found.message == "q is used up: requests.nvidia.com/gpu (4 of 4), pods (10 of 10)"
    assert "gpuyard ps --namespace team" in found.remedy


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "limits.nvidia.com/gpu"])
def test_what_counts_nothing(resource: str) -> None:
    found = look(quota({resource: "4"}))
    assert (found.outcome, found.message) == (
        CheckState.WARNING,
        f"q limits {resource}, which counts nothing",
    )
    assert "write requests.nvidia.com/gpu in its place" in found.remedy


def test_what_runs_have_to_say() -> None:
    wanting = quota({"requests.cpu": "8", "limits.memory": "64Gi"}, {"requests.cpu": "0"})
    found = look(wanting)
    assert found.outcome is CheckState.WARNING
    assert found.message == "q wants limits.memory, requests.cpu of every pod, and refuses those without"
    assert found.remedy == "give runs --memory and --cpus, or let a LimitRange say it for them"
    # A default limit of the namespace is a default request as well.
    given = limits(default={"memory": "1Gi", "cpu": "1"})
    assert look(wanting, ranges=(given,)).outcome is CheckState.OK
    requests = limits(defaultRequest={"memory": "1Gi", "cpu": "1"})
    assert "wants limits.memory of every pod" in look(wanting, ranges=(requests,)).message
    assert look(wanting, ranges=(limits("Pod", default={"memory": "1Gi"}),)).outcome is CheckState.WARNING


def test_a_quota_of_nothing() -> None:
    assert look(quota({GPUS: "0"})).outcome is CheckState.WARNING
    empty: Manifest = {"metadata": {"name": "q", "namespace": "team"}, "spec": {}}
    assert look(empty).outcome is CheckState.OK
