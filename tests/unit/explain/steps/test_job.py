from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Owner
from gpuyard.explain.run_objects import RunObjects
from gpuyard.explain.steps.job import find_job
from gpuyard.kube.objects import Manifest


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


def queued(*conditions: Manifest) -> RunObjects:
    job = {"metadata": {"name": "a", "namespace": "n", "labels": {"kueue.x-k8s.io/queue-name": "team"}}}
    return RunObjects({**job, "spec": {"suspend": True}}, workloads=[{"status": {"conditions": conditions}}])


@pytest.mark.parametrize(
    ("conditions", "evidence"),
    [
        ((), ()),
        (
            ({"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "1 more needed"},),
            ("Kueue says: 1 more needed",),
        ),
        (
            (
                {"type": "QuotaReserved", "status": "True", "message": "Quota reserved in ClusterQueue gpus"},
                {"type": "Admitted", "status": "False", "message": "The workload has no reservation"},
                {"type": "Evicted", "status": "False", "message": "Previously: preempted"},
            ),
            (),
        ),
        (
            (
                {"type": "Evicted", "status": "True", "message": "Preempted to accommodate a workload"},
                {"type": "QuotaReserved", "status": "False", "message": "waits for preemption"},
            ),
            ("Kueue says: waits for preemption", "Kueue says: Preempted to accommodate a workload"),
        ),
        (({"type": "QuotaReserved", "status": "False"},), ()),
    ],
    ids=["not looked at yet", "does not fit", "quota is reserved", "evicted", "no message"],
)
def test_a_job_that_kueue_holds(conditions: tuple[Manifest, ...], evidence: tuple[str, ...]) -> None:
    found = find_job(queued(*conditions))
    assert found is not None and found.cause is Cause.QUEUED
    assert found.headline == "its Job is suspended until Kueue admits it from queue team"
    assert found.owner == Owner("LocalQueue", "team", "n")
    assert found.evidence == evidence


def test_what_a_workload_that_has_its_quota_still_waits_for() -> None:
    checks = [
        {"name": "ready", "state": "Ready", "message": ""},
        {"name": "budget", "state": "Pending", "message": ""},
        {"name": "nodes", "state": "Retry", "message": "no capacity"},
    ]
    workload = {
        "status": {"conditions": [{"type": "QuotaReserved", "status": "True"}], "admissionChecks": checks}
    }
    found = find_job(replace(queued(), workloads=[workload], place="place 3 in its LocalQueue"))
    assert found is not None and found.evidence == (
        "Kueue says: admission check budget is Pending",
        "Kueue says: admission check nodes is Retry: no capacity",
        "Kueue says: place 3 in its LocalQueue",
    )


def test_a_workload_that_is_not_to_be_admitted() -> None:
    workload = {"metadata": {"name": "job-a-1"}, "spec": {"active": False}}
    found = find_job(replace(queued(), workloads=[workload]))
    assert found is not None and found.headline.endswith("Kueue is told not to admit it from queue team")
    assert found.remedies[0].command.startswith("kubectl patch workload job-a-1 -n n --type=merge")
