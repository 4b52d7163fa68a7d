"""Jobs whose indexes fail each for itself, by Kubernetes' rules (indexed_job_utils_test.go)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuyard.controllers.job.index_failures import failed_indexes, failures_after, held_failures
from gpuyard.controllers.job.plan import JobPlan, plan
from gpuyard.controllers.job.status import account, judge
from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import IndexFailures, PodView

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)

MakeJob = Callable[..., JobView]
MakePod = Callable[..., PodView]


def rule(action: str, code: int) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"operator": "In", "values": [code]}}


POLICY = {"rules": [rule("FailIndex", 3), rule("Ignore", 4), rule("FailJob", 5)]}


def age(moment: datetime) -> float:
    return (NOW - moment).total_seconds()


@pytest.fixture
def job(make_job: MakeJob) -> Callable[..., JobView]:
    def make(limit: int = 1, completions: int = 3, **changes: Any) -> JobView:
        fields = {
            "indexed": True,
            "completions": completions,
            "parallelism": completions,
            "limit_per_index": limit,
        }
        return make_job(**{**fields, "backoff_limit": 2**31 - 1, "failure_policy": POLICY, **changes})

    return make


@pytest.fixture
def failed(make_pod: MakePod) -> Callable[..., PodView]:
    def make(index: int, code: int = 1, *, before: tuple[int, int] = (0, 0), **changes: Any) -> PodView:
        status = {"containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": code}}}]}
        fields = {"index": index, "status": status, "index_failures": IndexFailures(*before)}
        name = f"{index}-{before[0] + before[1]}"
        return make_pod(name, "Failed", **{**fields, "finished_at": LONG_AGO, **changes})

    return make


def test_an_index_fails_once_its_failures_are_over_its_limit(job: MakeJob, failed: MakePod) -> None:
    pods = [failed(0), failed(1, before=(1, 0)), failed(2, before=(0, 5))]
    assert failed_indexes(job(), pods) == {1}
    assert failed_indexes(job(limit=0), pods) == {0, 1, 2}
    assert failed_indexes(job(failed_indexes="0"), []) == {0}
    assert failed_indexes(job(limit_per_index=None), pods) == frozenset()


def test_rules_fail_an_index_at_once_or_count_nothing(job: MakeJob, failed: MakePod) -> None:
    pods = [failed(0, 3), failed(1, 4, before=(1, 0))]
    assert failed_indexes(job(), pods) == {0}
    assert failures_after(job(), pods[1]) == IndexFailures(1, 1)
    assert failures_after(job(), failed(2)) == IndexFailures(1, 0)


def test_a_failed_pod_keeps_its_finalizer_until_another_knows_what_it_knows(
    job: MakeJob, failed: MakePod, make_pod: MakePod
) -> None:
    last = failed(0, 4, before=(1, 0))
    pods = [failed(0), last, failed(1), make_pod("1-1", index=1), failed(2, 3)]
    assert held_failures(job(), pods) == {0: last}
    written = account(job(), pods, None, NOW)
    # What is ignored isn't counted when it is let go, either.
    assert {pod.uid for pod in written.release} == {"0-0", "1-0", "2-0"}
    assert written.status["failedIndexes"] == "2"
    again = job(status=written.status, failed_indexes="2", uncounted_failed=("0-0", "1-0", "2-0"))
    replaced = [last, make_pod("0-2", index=0), make_pod("1-1", index=1)]
    after = account(again, replaced, None, NOW)
    assert ({pod.uid for pod in after.release}, after.status["failed"]) == ({"0-1"}, 3)


def test_a_verdict_lets_all_go(job: MakeJob, failed: MakePod) -> None:
    pods = [failed(0), failed(1, 5)]
    verdict = judge(job(), pods, age)
    assert verdict is not None
    assert verdict.reason == "PodFailurePolicy"
    assert len(account(job(), pods, verdict, NOW).release) == 2


def test_the_job_fails_once_all_have_ended(job: MakeJob, failed: MakePod, make_pod: MakePod) -> None:
    some = [failed(0, 3), make_pod("1-0", "Succeeded", index=1)]
    assert judge(job(), some, age) is None
    verdict = judge(job(completed_indexes="2"), some, age)
    assert verdict is not None
    assert (verdict.succeeded, verdict.reason, verdict.message) == (
        False,
        "FailedIndexes",
        "Job has failed indexes",
    )
    many = judge(job(max_failed_indexes=0), some, age)
    assert many is not None
    assert many.reason == "MaxFailedIndexesExceeded"
    assert judge(job(completed_indexes="0-2"), [], age) is not None


def test_each_index_waits_for_itself_and_the_others_go_on(job: MakeJob, failed: MakePod) -> None:
    fresh = NOW - timedelta(seconds=15)
    pods = [failed(0, finished_at=fresh, before=(1, 1)), failed(1, finished_at=fresh), failed(2, 3)]
    todo = plan(job(limit=9, completions=5, parallelism=2), pods, None, age, 10)
    # Three failures have a back-off of 40 s, one of 10 s; one that has failed for good has none.
    assert todo == JobPlan(create=(1, 3), wait_s=25.0, failures={1: IndexFailures(1, 0), 3: IndexFailures()})
    held = plan(job(limit=9, completions=3), pods[:1], None, age, 10)
    assert (held.create, held.wait_s) == ((1, 2), 25.0)


def test_what_has_failed_isn_t_wanted_any_more(job: MakeJob, make_pod: MakePod) -> None:
    running = [make_pod("2-0", index=2)]
    assert plan(job(failed_indexes="0-1"), running, None, age, 10) == JobPlan()
