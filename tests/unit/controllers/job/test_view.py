from __future__ import annotations

from typing import Any

import pytest

from gpuyard.controllers.job.view import view_job
from gpuyard.kube.timestamps import parse_time


def job(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "train", "namespace": "default", "uid": "u"},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}, **spec},
    }


@pytest.mark.parametrize(
    ("spec", "parallelism", "completions"),
    [
        ({}, 1, 1),
        ({"parallelism": 3}, 3, None),
        ({"completions": 4}, 1, 4),
        ({"parallelism": 0, "completions": 4}, 0, 4),
    ],
)
def test_absent_counts_get_kubernetes_defaults(
    spec: dict[str, Any], parallelism: int, completions: int | None
) -> None:
    view = view_job(job(**spec))
    assert (view.parallelism, view.completions, view.backoff_limit) == (parallelism, completions, 6)


def test_a_job_of_another_controller_is_not_managed() -> None:
    assert view_job(job()).managed
    assert view_job(job(managedBy="kubernetes.io/job-controller")).managed
    assert not view_job(job(managedBy="kueue.x-k8s.io/multikueue")).managed


def test_the_end_is_the_time_of_the_final_condition() -> None:
    raw = job()
    raw["status"] = {
        "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-31T11:00:00Z"},
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-31T11:00:05Z"},
        ]
    }
    assert view_job(raw).finished_at == parse_time("2026-01-31T11:00:05Z")
    raw["status"]["conditions"].pop()
    assert view_job(raw).finished_at is None
