from __future__ import annotations

from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.explain.run_objects import RunObjects
from gpuyard.explain.steps.job import find_job


def suspended(**annotations: str) -> RunObjects:
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "a", "namespace": "n", "annotations": annotations},
        "spec": {"suspend": True},
    }
    return RunObjects(job)


def test_a_job_that_somebody_suspended() -> None:
    found = find_job(suspended())
    assert found is not None and found.cause is Cause.SUSPENDED


def test_a_run_that_its_user_stopped_before_it_began_is_held_by_nobody() -> None:
    assert find_job(suspended(**{"gpuyard.io/stopped-at": "2026-01-31T12:00:00Z"})) is None
