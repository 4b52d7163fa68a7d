from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gpuyard.workloads.pod_failure_policy import retry_fields
from gpuyard.workloads.stopping import StopOptions, stop_patches, unsaved_text

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_AT = "2026-01-31T12:00:00Z"
MARK = {"annotations": {"gpuyard.io/stopped-at": _AT, "gpuyard.io/stopped-by": None}}
SUSPENDING = {"annotations": {"gpuyard.io/stopped-at": _AT, "gpuyard.io/stopped-by": "suspending"}}
DEADLINE = {"spec": {"activeDeadlineSeconds": 1}}


def job(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", **metadata}, "spec": {}, "status": {}}


def pod(name: str, phase: str | None, started: bool) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": phase} if phase else {}
    if started:
        status["startTime"] = "2026-01-31T11:00:00Z"
    return {"metadata": {"name": name}, "status": status}


def test_a_started_pod_gets_a_deadline_and_the_job_no_further_attempt() -> None:
    assert stop_patches(job(), [pod("p", "Running", True)], NOW) == (
        {"metadata": MARK, "spec": {"backoffLimit": 0}},
        {"p": DEADLINE},
    )


def test_failed_attempts_do_not_fail_the_job_before_the_present_one_has_ended() -> None:
    """A Job that has failed deletes what still runs, and its logs with it."""
    attempts = [pod("a", "Failed", True), pod("b", "Failed", True), pod("c", "Running", True)]
    assert stop_patches(job(), attempts, NOW).job["spec"] == {"backoffLimit": 2}
    counted = job() | {"status": {"failed": 3}}
    assert stop_patches(counted, attempts, NOW).job["spec"] == {"backoffLimit": 3}


def test_a_failure_that_is_ignored_allows_no_further_attempt() -> None:
    disrupted = pod("a", "Failed", True)
    disrupted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    run = job() | {"spec": retry_fields(3)}
    patches = stop_patches(run, [disrupted, pod("b", "Running", True)], NOW)
    assert patches.job["spec"] == {"backoffLimit": 0}


def test_what_is_being_deleted_is_left_to_end_and_not_made_again() -> None:
    drained = pod("p", "Running", True)
    drained["metadata"]["deletionTimestamp"] = _AT
    assert stop_patches(job(), [drained], NOW) == ({"metadata": SUSPENDING, "spec": {"suspend": True}}, {})


def test_a_starting_pod_counts_as_started() -> None:
    assert stop_patches(job(), [pod("p", "Pending", True)], NOW).pods == {"p": DEADLINE}


@pytest.mark.parametrize(
    "pods", [[], [pod("p", "Pending", False)], [pod("p", None, False)], [pod("old", "Failed", True)]]
)
def test_with_nothing_started_the_job_is_suspended(pods: list[dict[str, Any]]) -> None:
    assert stop_patches(job(), pods, NOW) == ({"metadata": SUSPENDING, "spec": {"suspend": True}}, {})


def test_only_live_pods_are_patched() -> None:
    pods = [
        pod("a", "Failed", True),
        pod("b", "Running", True),
        pod("c", "Succeeded", True),
        pod("d", "Pending", False),
    ]
    assert stop_patches(job(), pods, NOW).pods == {"b": DEADLINE}


@pytest.mark.parametrize("type_", ["Complete", "Failed"])
def test_a_finished_job_is_left_alone(type_: str) -> None:
    finished = job() | {"status": {"conditions": [{"type": type_, "status": "True"}]}}
    assert stop_patches(finished, [pod("p", "Running", True)], NOW) == ({}, {})


def test_a_second_stop_keeps_the_time_of_the_first() -> None:
    before = {"gpuyard.io/stopped-at": "2026-01-01T00:00:00Z"}
    patches = stop_patches(job(annotations=before), [], NOW)
    assert patches.job["metadata"]["annotations"]["gpuyard.io/stopped-at"] == before["gpuyard.io/stopped-at"]


def test_a_stop_after_a_resume_is_a_new_one() -> None:
    resumed = {"gpuyard.io/stopped-at": "2026-01-01T00:00:00Z", "gpuyard.io/stopped-by": "suspending"}
    patches = stop_patches(job(annotations=resumed), [pod("p", "Running", True)], NOW)
    assert patches.job == {"metadata": MARK, "spec": {"backoffLimit": 0}}


def test_how_processes_are_to_end_is_written_on_the_pods() -> None:
    options = StopOptions(5, "SIGINT")
    patch = stop_patches(job(), [pod("p", "Running", True)], NOW, options).pods["p"]
    assert patch["spec"] == DEADLINE["spec"]
    assert StopOptions.of(patch) == options


@pytest.mark.parametrize(
    "marks", [{"gpuyard.io/stop-grace-s": "-1"}, {"gpuyard.io/stop-signal": "SIGNONE"}, {}]
)
def test_marks_that_say_nothing_count_as_none(marks: dict[str, str]) -> None:
    assert StopOptions.of({"metadata": {"annotations": marks}}) == StopOptions()


@pytest.mark.parametrize(
    ("code", "container_reason", "pod_reason", "said"),
    [
        (137, "Error", "DeadlineExceeded", "(SIGKILL) 40 s after it had been told to end"),
        (143, "Error", "DeadlineExceeded", ""),
        (137, "OOMKilled", "DeadlineExceeded", ""),
        (137, "Error", "", ""),
    ],
)
def test_who_was_killed_at_the_end_of_its_grace_had_not_saved(
    code: int, container_reason: str, pod_reason: str, said: str
) -> None:
    ended = {"terminated": {"exitCode": code, "reason": container_reason}}
    status = {
        "phase": "Failed",
        "reason": pod_reason,
        "containerStatuses": [{"name": "main", "state": ended}],
    }
    killed = {"metadata": {}, "spec": {"terminationGracePeriodSeconds": 40}, "status": status}
    text = unsaved_text([killed])
    assert said in text
    assert bool(said) == ("GPUYARD_SAVED" in text)
