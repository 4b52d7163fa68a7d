"""The Job controller against the yard's own API, with a kubelet that only writes what it is told."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gpuyard.client.api import Propagation
from gpuyard.client.supervision import Supervisor
from gpuyard.controllers.garbage import GarbageCollector
from gpuyard.controllers.job.controller import JobController
from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import JOBS, PODS, Manifest, ObjectKey, annotations_of
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects.admission import DEFAULT
from tests.unit.controllers.conftest import Clock

# The fixture `yard` and its `clock` are of conftest's classes, which test files can't import.
Yard = Any
FINALIZER = "batch.kubernetes.io/job-tracking"


def controller(yard: Yard, **options: Any) -> JobController:
    return JobController(
        yard.api,
        yard.clock,
        yard.informers[JOBS],
        yard.informers[PODS],
        rng=random.Random(1),
        seconds=yard.clock.seconds,
        **options,
    )


async def test_a_pod_that_succeeds_completes_its_job(yard: Yard) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: "Succeeded")):
        await yard.api.create(JOBS, yard.a_job())
        await yard.until(lambda: yard.job_is("Complete"))
        await yard.until(lambda: "Completed" in yard.reasons())
    status = yard.job()["status"]
    conditions = status.pop("conditions")
    assert status == {
        "ready": 0,
        "terminating": 0,
        "succeeded": 1,
        "uncountedTerminatedPods": {},
        "startTime": "2026-01-31T12:00:00Z",
        "completionTime": "2026-01-31T12:00:00Z",
    }
    assert [c["type"] for c in conditions] == ["SuccessCriteriaMet", "Complete"]
    [pod] = yard.pods()
    assert FINALIZER not in pod["metadata"].get("finalizers", [])
    assert yard.reasons() == ["Completed", "SuccessfulCreate"]


async def test_a_drained_pod_is_made_again_and_counts_for_nothing(yard: Yard) -> None:
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    async with yard.running(controller(yard)):
        await yard.api.create(JOBS, yard.a_job(backoffLimit=0, podFailurePolicy={"rules": rules}))
        await yard.until(lambda: yard.pods("Pending"))
        [first] = yard.pods()
        name = first["metadata"]["name"]
        await yard.api.bind("default", name, "node-a")
        eviction = {"metadata": {"name": name}}
        spec = yard.api.kinds.of(PODS)
        await yard.api.create_below_raw(
            spec, ObjectKey("default", name), spec.subresource("eviction"), eviction, DEFAULT
        )
        [first] = yard.pods()
        # Only once it has ended: two of them would write the same checkpoint.
        assert [c["type"] for c in first["status"]["conditions"]] == ["PodScheduled", "DisruptionTarget"]
        await yard.touch("while it ends")
        await yard.end_pod(first, "Failed")
        await yard.api.delete(PODS, name, "default", grace_period_s=0)
        await yard.until(lambda: [p for p in yard.pods("Pending") if p["metadata"]["name"] != name])
    assert "failed" not in yard.job()["status"]
    assert len(yard.pods()) == 1


async def test_a_finished_job_is_left_alone(yard: Yard) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: "Succeeded")):
        await yard.api.create(JOBS, yard.a_job())
        await yard.until(lambda: "Completed" in yard.reasons())
        revision = yard.job()["metadata"]["resourceVersion"]
        await yard.api.create(JOBS, yard.a_job("second"))
        await yard.until(lambda: yard.reasons().count("Completed") == 2)
    assert yard.job()["metadata"]["resourceVersion"] == revision


async def test_a_hundred_pods_twenty_at_a_time(yard: Yard) -> None:
    kubelet = yard.kubelet(lambda pod: "Succeeded")
    async with yard.running(controller(yard), kubelet):
        await yard.api.create(JOBS, yard.a_job(completions=100, parallelism=20))
        await yard.until(lambda: yard.job_is("Complete"))
    assert yard.job()["status"]["succeeded"] == 100
    assert len(yard.pods()) == 100
    assert 2 <= kubelet.most_active <= 20


async def test_a_failed_pod_is_tried_again_after_a_while(yard: Yard, clock: Clock) -> None:
    async with yard.running(controller(yard, backoff_s=0.02), yard.kubelet(lambda pod: "Failed")):
        await yard.api.create(JOBS, yard.a_job(backoffLimit=1))
        await yard.until(lambda: yard.job()["status"].get("failed") == 1)
        await yard.touch("1")
        assert len(yard.pods()) == 1
        clock.advance(1)
        await yard.until(lambda: len(yard.pods()) == 2)
        await yard.until(lambda: yard.job_is("Failed"))
        await yard.until(lambda: "BackoffLimitExceeded" in yard.reasons())
    assert yard.job()["status"]["failed"] == 2
    failed = find_condition(yard.job(), "Failed") or {}
    assert failed["message"] == "Job has reached the specified backoff limit"


@pytest.mark.parametrize("set_by", [86_400, -86_400])
async def test_a_clock_that_is_set_moves_no_backoff(yard: Yard, clock: Clock, set_by: float) -> None:
    """Neither is the Job held for a day nor are its pods made one after the other."""
    async with yard.running(controller(yard, backoff_s=60), yard.kubelet(lambda pod: "Failed")):
        await yard.api.create(JOBS, yard.a_job(backoffLimit=1))
        await yard.until(lambda: yard.job()["status"].get("failed") == 1)
        await yard.touch("1")
        clock.set_by(set_by)
        clock.advance(59)
        await yard.touch("2")
        await yard.api.create(JOBS, yard.a_job("later", backoffLimit=1))
        await yard.until(lambda: yard.job("later")["status"].get("failed") == 1)
        assert len(yard.pods()) == 2
        clock.advance(2)
        await yard.touch("3")
        await yard.until(lambda: yard.job()["status"].get("failed") == 2)


async def test_a_failed_job_stops_its_other_pods_before_it_says_so(yard: Yard) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: None)):
        await yard.api.create(JOBS, yard.a_job(completions=3, parallelism=3, backoffLimit=0))
        await yard.until(lambda: len(yard.pods("Running")) == 3)
        for pod in yard.pods():
            await yard.api.bind("default", pod["metadata"]["name"], "a")
        await yard.end_pod(yard.pods()[0], "Failed")
        await yard.until(lambda: yard.job_is("FailureTarget"))
        # The kubelet has ended them; only now may the Job be over.
        await yard.until(lambda: yard.job_is("Failed"))
        assert not yard.pods("Running", "Pending")
    assert yard.job()["status"]["failed"] == 3


async def test_the_deadline_ends_a_job(yard: Yard, clock: Clock) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: None)):
        await yard.api.create(JOBS, yard.a_job(activeDeadlineSeconds=60))
        await yard.until(lambda: len(yard.pods("Running")) == 1)
        # A pod may run before it is written when the Job began, from which the deadline counts.
        await yard.until(lambda: "startTime" in yard.job().get("status", {}))
        clock.advance(61)
        await yard.touch("1")
        await yard.until(lambda: yard.job_is("Failed"))
    failed = find_condition(yard.job(), "Failed") or {}
    assert failed["reason"] == "DeadlineExceeded"
    assert failed["message"] == "Job was active longer than specified deadline"


async def test_a_clock_that_is_set_ends_no_job(yard: Yard, clock: Clock) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: None)):
        await yard.api.create(JOBS, yard.a_job(activeDeadlineSeconds=60))
        await yard.until(lambda: "startTime" in yard.job().get("status", {}))
        await yard.touch("1")
        await yard.until(lambda: yard.job()["status"].get("active") == 1)
        clock.set_by(86_400)
        [pod] = yard.pods()
        await yard.until(lambda: len(yard.pods("Running")) == 1)
        await yard.end_pod(pod, "Succeeded")
        await yard.until(lambda: yard.job_is("Complete") or yard.job_is("Failed"))
        assert yard.job_is("Complete")


async def test_suspending_stops_pods_without_counting_them(yard: Yard, clock: Clock) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: None)):
        await yard.api.create(JOBS, yard.a_job(completions=2, parallelism=2, backoffLimit=0))
        await yard.until(lambda: len(yard.pods("Running")) == 2)
        await yard.api.patch(JOBS, "train", {"spec": {"suspend": True}}, "default")
        await yard.until(lambda: yard.job_is("Suspended"))
        await yard.until(lambda: not yard.pods())
        assert "failed" not in yard.job()["status"]
        clock.advance(100)
        await yard.api.patch(JOBS, "train", {"spec": {"suspend": False}}, "default")
        await yard.until(lambda: len(yard.pods("Running")) == 2)
        await yard.until(lambda: not condition_is_true(yard.job(), "Suspended"))
        assert yard.job()["status"]["startTime"] == format_time(clock())
        await yard.until(lambda: "Resumed" in yard.reasons())
    assert {"Suspended", "Resumed", "SuccessfulDelete"} <= set(yard.reasons())


async def test_an_indexed_job_completes_each_index_once(yard: Yard, clock: Clock) -> None:
    tried: list[str] = []

    def first_try_of_one_fails(pod: Manifest) -> str:
        index = annotations_of(pod)["batch.kubernetes.io/job-completion-index"]
        tried.append(index)
        return "Failed" if index == "1" and tried.count("1") == 1 else "Succeeded"

    async with yard.running(controller(yard, backoff_s=0.0), yard.kubelet(first_try_of_one_fails)):
        await yard.api.create(JOBS, yard.a_job(completions=4, parallelism=2, completionMode="Indexed"))
        await yard.until(lambda: yard.job_is("Complete"))
    status = yard.job()["status"]
    assert (status["completedIndexes"], status["succeeded"], status["failed"]) == ("0-3", 4, 1)
    assert sorted(pod["spec"]["hostname"] for pod in yard.pods()) == [
        "train-0", "train-1", "train-1", "train-2", "train-3",
    ]  # fmt: skip


async def test_a_pod_that_someone_deletes_is_counted_and_replaced(yard: Yard) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: None)):
        await yard.api.create(JOBS, yard.a_job())
        await yard.until(lambda: len(yard.pods("Running")) == 1)
        [first] = yard.pods()
        await yard.api.delete(PODS, first["metadata"]["name"], "default")
        await yard.until(lambda: yard.job()["status"].get("failed") == 1)
        await yard.until(
            lambda: (
                [p["metadata"]["uid"] for p in yard.pods("Running")] not in ([], [first["metadata"]["uid"]])
            )
        )


async def test_pods_of_a_deleted_job_go(yard: Yard) -> None:
    parts = (
        controller(yard),
        yard.kubelet(lambda pod: None),
        GarbageCollector(yard.api, yard.informers, Supervisor()),
    )
    async with yard.running(*parts):
        for propagation in (Propagation.BACKGROUND, Propagation.FOREGROUND):
            await yard.api.create(JOBS, yard.a_job(completions=3, parallelism=3))
            await yard.until(lambda: len(yard.pods("Running")) == 3)
            await yard.api.delete(JOBS, "train", "default", propagation=propagation)
            await yard.until(lambda: not yard.pods() and not yard.objects(JOBS))


async def test_orphaned_pods_stay_without_the_finalizer(yard: Yard) -> None:
    parts = (
        controller(yard),
        yard.kubelet(lambda pod: None),
        GarbageCollector(yard.api, yard.informers, Supervisor()),
    )
    async with yard.running(*parts):
        await yard.api.create(JOBS, yard.a_job())
        await yard.until(lambda: len(yard.pods("Running")) == 1)
        await yard.api.delete(JOBS, "train", "default", propagation=Propagation.ORPHAN)
        await yard.until(lambda: not yard.objects(JOBS))
        await yard.until(lambda: all(not p["metadata"].get("finalizers") for p in yard.pods()))
    [pod] = yard.pods()
    assert not pod["metadata"].get("ownerReferences")


async def test_a_finished_job_is_deleted_when_its_time_is_over(yard: Yard) -> None:
    parts = (controller(yard), yard.kubelet(lambda pod: "Succeeded"))
    async with yard.running(*parts, GarbageCollector(yard.api, yard.informers, Supervisor())):
        await yard.api.create(JOBS, yard.a_job(ttlSecondsAfterFinished=0))
        await yard.until(lambda: "Completed" in yard.reasons())
        await yard.until(lambda: not yard.objects(JOBS) and not yard.pods())


async def test_a_job_of_another_controller_is_left_alone(yard: Yard) -> None:
    async with yard.running(controller(yard), yard.kubelet(lambda pod: "Succeeded")):
        await yard.api.create(JOBS, yard.a_job("other", managedBy="example.com/other"))
        await yard.api.create(JOBS, yard.a_job())
        await yard.until(lambda: yard.job_is("Complete"))
    assert yard.job("other").get("status", {}) == {}
    assert len(yard.pods()) == 1
