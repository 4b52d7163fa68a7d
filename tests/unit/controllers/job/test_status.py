from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuyard.controllers.job.status import (
    JobVerdict,
    account,
    failed_count,
    judge,
    news,
    succeeded_count,
    time_left_s,
)
from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import PodView

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
AT = "2026-01-31T12:00:00Z"
FAILED = JobVerdict(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
DONE = JobVerdict(True, "CompletionsReached", "Reached expected number of succeeded pods")

REACHED, BACKOFF, DEADLINE = "CompletionsReached", "BackoffLimitExceeded", "DeadlineExceeded"

MakeJob = Callable[..., JobView]
MakePod = Callable[..., PodView]


def age(moment: datetime) -> float:
    return (NOW - moment).total_seconds()


def condition(type_: str, status: str = "True", reason: str = "r", message: str = "m") -> dict[str, Any]:
    return {
        "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": AT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("job", "pods", "reason"),
    [
        ({}, [("a", "Running", {})], None),
        ({}, [("a", "Succeeded", {})], REACHED),
        ({"completions": 2}, [("a", "Succeeded", {})], None),
        ({"completions": 2, "succeeded": 1}, [("a", "Succeeded", {})], REACHED),
        ({"completions": 2, "uncounted_succeeded": ("gone",)}, [("a", "Succeeded", {})], REACHED),
        ({"completions": 0}, [], REACHED),
        ({"completions": 1, "succeeded": 1}, [("a", "Running", {})], None),
        ({"completions": None, "parallelism": 2}, [("a", "Succeeded", {}), ("b", "Running", {})], None),
        ({"completions": None, "parallelism": 2}, [("a", "Succeeded", {}), ("b", "Failed", {})], REACHED),
        ({"completions": None, "parallelism": 0}, [], None),
        ({"backoff_limit": 0}, [("a", "Failed", {})], BACKOFF),
        ({"backoff_limit": 1}, [("a", "Failed", {})], None),
        ({"backoff_limit": 1, "failed": 1}, [("a", "Failed", {})], BACKOFF),
        ({"backoff_limit": 1, "failed": 1}, [("a", "Failed", {"tracked": False})], None),
        ({"backoff_limit": 1, "uncounted_failed": ("a",)}, [("a", "Failed", {})], None),
        ({"backoff_limit": 0}, [("a", "Running", {"deleting": True})], BACKOFF),
        ({"backoff_limit": 0, "replaces_only_failed": True}, [("a", "Running", {"deleting": True})], None),
        ({"backoff_limit": 0}, [("a", "Succeeded", {"deleting": True})], REACHED),
        ({"restarts_in_place": True, "backoff_limit": 2}, [("a", "Running", {"restarts": 1})], None),
        ({"restarts_in_place": True, "backoff_limit": 2}, [("a", "Running", {"restarts": 2})], BACKOFF),
        ({"restarts_in_place": True, "backoff_limit": 0}, [("a", "Running", {"restarts": 0})], None),
        ({"restarts_in_place": True, "backoff_limit": 0}, [("a", "Running", {"restarts": 1})], BACKOFF),
        ({"backoff_limit": 0}, [("a", "Running", {"restarts": 5})], None),
        ({"deadline_s": 60, "started_at": NOW - timedelta(seconds=59)}, [("a", "Running", {})], None),
        ({"deadline_s": 60, "started_at": NOW - timedelta(seconds=60)}, [("a", "Running", {})], DEADLINE),
        ({"deadline_s": 60, "started_at": NOW - timedelta(60), "suspended": True},
         [("a", "Running", {})], None),
        ({"deadline_s": 60, "started_at": NOW - timedelta(60),
          "status": {"conditions": [condition("Suspended")]}}, [("a", "Running", {})], None),
        ({"deadline_s": 60, "started_at": None}, [], None),
        ({"indexed": True, "completions": 2}, [("a", "Succeeded", {"index": 1})], None),
        ({"indexed": True, "completions": 2, "completed_indexes": "0"},
         [("a", "Succeeded", {"index": 1})], REACHED),
        ({"indexed": True, "completions": 2, "completed_indexes": "0"},
         [("a", "Succeeded", {"index": 0})], None),
        ({"indexed": True, "completions": 2, "completed_indexes": "0"},
         [("a", "Succeeded", {"index": 2})], None),
        ({"indexed": True, "completions": 2, "backoff_limit": 0}, [("a", "Failed", {"index": 2})], None),
        ({"status": {"conditions": [condition("FailureTarget", reason=DEADLINE)]}},
         [("a", "Succeeded", {})], DEADLINE),
        ({"backoff_limit": 0,
          "status": {"conditions": [condition("SuccessCriteriaMet", reason=REACHED)]}},
         [("a", "Failed", {})], REACHED),
    ],
)  # fmt: skip
def test_how_a_job_ends(
    make_job: MakeJob,
    make_pod: MakePod,
    job: dict[str, Any],
    pods: list[tuple[str, str, dict[str, Any]]],
    reason: str | None,
) -> None:
    views = [make_pod(name, phase, **fields) for name, phase, fields in pods]
    verdict = judge(make_job(**job), views, age)
    assert (verdict.reason if verdict else None) == reason


POLICY = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]
}
DISRUPTED = {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}


def exited(code: int) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": code}}}]}


@pytest.mark.parametrize(
    ("status", "limit", "reason"),
    [
        (DISRUPTED, 0, None),
        (exited(42), 6, "PodFailurePolicy"),
        (exited(1), 0, BACKOFF),
        (exited(1), 1, None),
        ({}, 0, BACKOFF),
        (DISRUPTED | exited(42), 0, None),
    ],
)
def test_a_failure_policy_says_what_a_failure_means(
    make_job: MakeJob, make_pod: MakePod, status: dict[str, Any], limit: int, reason: str | None
) -> None:
    job = make_job(failure_policy=POLICY, backoff_limit=limit)
    verdict = judge(job, [make_pod("a", "Failed", status=status)], age)
    assert (verdict.reason if verdict else None) == reason


def test_a_pod_that_is_deleted_for_a_suspension_fails_nothing(make_job: MakeJob, make_pod: MakePod) -> None:
    pod = make_pod("a", "Failed", status=exited(42), tracked=False, deleting=True)
    assert judge(make_job(failure_policy=POLICY, suspended=True), [pod], age) is None


def test_an_ignored_failure_is_released_uncounted(make_job: MakeJob, make_pod: MakePod) -> None:
    job = make_job(failure_policy=POLICY)
    result = account(job, [make_pod("a", "Failed", status=DISRUPTED)], None, NOW)
    assert [pod.uid for pod in result.release] == ["a"]
    assert result.status["uncountedTerminatedPods"] == {}
    failed = account(job, [make_pod("a", "Failed", status=exited(1))], None, NOW)
    assert failed.status["uncountedTerminatedPods"] == {"failed": ["a"]}


def test_messages_are_kubernetes_own(make_job: MakeJob, make_pod: MakePod) -> None:
    assert judge(make_job(backoff_limit=0), [make_pod("a", "Failed")], age) == FAILED
    assert judge(make_job(), [make_pod("a", "Succeeded")], age) == DONE
    late = judge(make_job(deadline_s=1, started_at=NOW - timedelta(seconds=5)), [make_pod("a")], age)
    assert late == JobVerdict(False, "DeadlineExceeded", "Job was active longer than specified deadline")


def test_the_deadline_counts_from_the_start(make_job: MakeJob) -> None:
    assert time_left_s(make_job(deadline_s=30, started_at=NOW - timedelta(seconds=20)), age) == 10


def test_the_longest_deadline_that_the_api_takes_is_one(make_job: MakeJob, make_pod: MakePod) -> None:
    job = make_job(deadline_s=2**63 - 1, started_at=NOW)
    assert judge(job, [make_pod("a", phase="Running")], age) is None
    assert time_left_s(make_job(), age) is None


def test_a_success_is_noted_before_the_pod_is_released(make_job: MakeJob, make_pod: MakePod) -> None:
    result = account(make_job(), [make_pod("a", "Succeeded")], DONE, NOW)
    assert result.status["uncountedTerminatedPods"] == {"succeeded": ["a"]}
    assert "succeeded" not in result.status
    assert [pod.uid for pod in result.release] == ["a"]
    assert not result.finished
    assert [c["type"] for c in result.status["conditions"]] == ["SuccessCriteriaMet"]


def test_it_is_counted_when_the_finalizer_is_off(make_job: MakeJob, make_pod: MakePod) -> None:
    noted = account(make_job(), [make_pod("a", "Succeeded")], DONE, NOW).status
    job = make_job(uncounted_succeeded=("a",), status=noted)
    result = account(job, [make_pod("a", "Succeeded", tracked=False)], DONE, NOW + timedelta(seconds=2))
    assert result.finished
    assert result.release == ()
    status = result.status
    assert (status["succeeded"], status["uncountedTerminatedPods"]) == (1, {})
    assert status["completionTime"] == "2026-01-31T12:00:02Z"
    assert [(c["type"], c["reason"], c["message"]) for c in status["conditions"]] == [
        (type_, DONE.reason, DONE.message) for type_ in ("SuccessCriteriaMet", "Complete")
    ]


def test_a_pod_that_vanished_after_it_was_noted_is_counted(make_job: MakeJob) -> None:
    result = account(make_job(uncounted_failed=("gone",), failed=1), [], None, NOW)
    assert (result.status["failed"], result.status["uncountedTerminatedPods"]) == (2, {})


def test_a_noted_pod_that_still_has_its_finalizer_is_released_again(
    make_job: MakeJob, make_pod: MakePod
) -> None:
    result = account(make_job(uncounted_failed=("a",)), [make_pod("a", "Failed")], None, NOW)
    assert result.status["uncountedTerminatedPods"] == {"failed": ["a"]}
    assert [pod.uid for pod in result.release] == ["a"]


def test_the_first_outcome_noted_stands(make_job: MakeJob, make_pod: MakePod) -> None:
    job = make_job(uncounted_failed=("a",))
    pod = make_pod("a", "Succeeded", deleting=True)
    assert (succeeded_count(job, [pod]), failed_count(job, [pod])) == (0, 1)
    assert account(job, [pod], None, NOW).status["uncountedTerminatedPods"] == {"failed": ["a"]}
    indexed = make_job(indexed=True, uncounted_failed=("a",))
    assert succeeded_count(indexed, [make_pod("a", "Succeeded", index=0)]) == 0


def test_pods_killed_by_a_failed_job_are_failures(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [make_pod("a", "Failed"), make_pod("b", deleting=True), make_pod("c", deleting=True)]
    for replaces_only_failed in (False, True):
        job = make_job(backoff_limit=0, replaces_only_failed=replaces_only_failed)
        result = account(job, pods, FAILED, NOW)
        assert result.status["uncountedTerminatedPods"] == {"failed": ["a", "b", "c"]}


def test_a_job_has_not_failed_before_its_last_process_has_ended(make_job: MakeJob, make_pod: MakePod) -> None:
    job = make_job(failed=1)
    still = account(job, [make_pod("b", deleting=True, tracked=False)], FAILED, NOW)
    assert not still.finished
    assert still.status["terminating"] == 1
    assert account(job, [make_pod("b", "Failed", tracked=False)], FAILED, NOW).finished


def test_an_index_is_counted_once_whoever_brings_it(make_job: MakeJob, make_pod: MakePod) -> None:
    job = make_job(indexed=True, completions=6, completed_indexes="0,1", succeeded=2)
    pods = [
        make_pod("a", "Succeeded", index=1),
        make_pod("b", "Succeeded", index=2),
        make_pod("c", "Succeeded", index=2),
        make_pod("d", "Succeeded", index=5),
        make_pod("e", "Succeeded", index=6),
        make_pod("f", "Failed", index=3),
    ]
    result = account(job, pods, None, NOW)
    assert (result.status["completedIndexes"], result.status["succeeded"]) == ("0-2,5", 4)
    assert result.status["uncountedTerminatedPods"] == {"failed": ["f"]}
    assert [pod.uid for pod in result.release] == ["a", "b", "c", "d", "e", "f"]


def test_gauges_say_what_runs_now(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [make_pod("a", ready=True), make_pod("b", "Pending"), make_pod("c", deleting=True, ready=True)]
    status = account(make_job(replaces_only_failed=True), pods, None, NOW).status
    assert (status["active"], status["ready"], status["terminating"]) == (2, 1, 1)
    assert account(make_job(), [], None, NOW).status.keys() >= {"ready", "terminating"}
    assert "active" not in account(make_job(), [], None, NOW).status


def test_a_new_job_starts_now_unless_it_is_suspended(make_job: MakeJob) -> None:
    assert account(make_job(started_at=None), [], None, NOW).status["startTime"] == AT
    suspended = account(make_job(started_at=None, suspended=True), [], None, NOW).status
    assert "startTime" not in suspended
    assert [(c["type"], c["status"], c["reason"]) for c in suspended["conditions"]] == [
        ("Suspended", "True", "JobSuspended")
    ]


def test_a_resumed_job_starts_anew(make_job: MakeJob) -> None:
    status = {"startTime": "2026-01-31T10:00:00Z", "conditions": [condition("Suspended")]}
    resumed = account(make_job(status=status), [], None, NOW).status
    assert resumed["startTime"] == AT
    assert [(c["status"], c["reason"]) for c in resumed["conditions"]] == [("False", "JobResumed")]
    later = account(make_job(status=resumed), [], None, NOW + timedelta(seconds=9)).status
    assert later["startTime"] == AT


def test_a_job_being_deleted_lets_go_of_every_pod(make_job: MakeJob, make_pod: MakePod) -> None:
    result = account(make_job(deleting=True), [make_pod("a"), make_pod("b", "Pending")], None, NOW)
    assert [pod.uid for pod in result.release] == ["a", "b"]
    assert result.status["uncountedTerminatedPods"] == {}


def test_no_more_than_500_outcomes_are_noted_at_once(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [make_pod(f"p{n}", "Succeeded") for n in range(600)]
    result = account(make_job(completions=600), pods, DONE, NOW)
    assert len(result.status["uncountedTerminatedPods"]["succeeded"]) == len(result.release) == 500
    assert not result.finished


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([], [condition("SuccessCriteriaMet"), condition("Complete")],
         [("Normal", "Completed", "Job completed")]),
        ([condition("Complete")], [condition("Complete")], []),
        ([condition("FailureTarget")],
         [condition("FailureTarget"), condition("Failed", reason="DeadlineExceeded")],
         [("Warning", "DeadlineExceeded", "m")]),
        ([], [condition("Suspended")], [("Normal", "Suspended", "m")]),
        ([condition("Suspended")], [condition("Suspended", "False")], [("Normal", "Resumed", "m")]),
    ],
)  # fmt: skip
def test_events_tell_of_turns(
    before: list[dict[str, Any]], after: list[dict[str, Any]], told: list[tuple[str, str, str]]
) -> None:
    assert news({"metadata": {}, "status": {"conditions": before}}, {"conditions": after}) == told


def test_the_end_of_a_stopped_job_is_no_warning() -> None:
    """It was stopped by allowing it no more attempts."""
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "limit"}
    job: dict[str, Any] = {"metadata": {"annotations": {"gpuyard.io/stopped-at": "2026-01-31T12:00:00Z"}}}
    assert news(job, {"conditions": [failed]}) == [("Normal", "Stopped", "Its user stopped it")]
