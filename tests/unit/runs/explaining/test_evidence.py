"""Which of a run's pods tells how it is."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.runs.explaining.evidence import attempt_before, decisive_pod
from gpuyard.runs.run import Run
from gpuyard.workloads.run_state import run_state


def pod(name: str, phase: str, index: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "annotations": {"batch.kubernetes.io/job-completion-index": index}},
        "spec": {"nodeName": "vm", "containers": [{"name": "main"}]},
        "status": {"phase": phase, "reason": "UnexpectedAdmissionError" if phase == "Failed" else ""},
    }


def run_of(*pods: dict[str, Any], conditions: tuple[str, ...] = ()) -> Run:
    job: dict[str, Any] = {
        "metadata": {"name": "a", "labels": {}},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}},
        "status": {"conditions": [{"type": each, "status": "True"} for each in conditions]},
    }
    return Run("a", job, list(pods), run_state(job, list(pods)))


def test_a_run_that_succeeded_is_told_by_no_attempt_that_failed() -> None:
    run = run_of(pod("a", "Failed", "0"), pod("b", "Succeeded", "0"), conditions=("Complete",))
    assert run.state.state == "succeeded"
    chosen = decisive_pod(run)
    assert chosen is not None and chosen["metadata"]["name"] == "b"


@pytest.mark.parametrize(("index", "before"), [("0", "b"), ("1", "c"), ("2", None)])
def test_an_attempt_comes_after_one_in_its_place(index: str, before: str | None) -> None:
    run = run_of(pod("a", "Failed", "0"), pod("b", "Failed", "0"), pod("c", "Failed", "1"))
    found = attempt_before(run, pod("d", "Pending", index))
    assert (found and found["metadata"]["name"]) == before
