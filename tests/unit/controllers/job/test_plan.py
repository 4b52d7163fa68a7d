from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuyard.controllers.job.plan import JobPlan, next_look_s, plan
from gpuyard.controllers.job.status import JobVerdict
from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.kube.ages import Ages

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

_FAILING = {"conditions": [{"type": "FailureTarget", "status": "True"}]}

MakeJob = Callable[..., JobView]
MakePod = Callable[..., PodView]


def age(moment: datetime) -> float:
    return (NOW - moment).total_seconds()


@pytest.mark.parametrize(
    ("job", "phases", "created"),
    [
        ({}, [], 1),
        ({}, ["Running"], 0),
        ({"completions": 5, "parallelism": 2}, [], 2),
        ({"completions": 5, "parallelism": 2}, ["Pending"], 1),
        ({"completions": 5, "parallelism": 2, "succeeded": 4}, [], 1),
        ({"completions": 5, "parallelism": 2}, ["Succeeded", "Running"], 1),
        ({"completions": 2, "parallelism": 9}, ["Succeeded"], 1),
        ({"completions": None, "parallelism": 3}, ["Running"], 2),
        ({"completions": None, "parallelism": 3}, ["Running", "Succeeded"], 0),
        ({"parallelism": 0}, [], 0),
        ({"suspended": True}, [], 0),
        ({"deleting": True}, [], 0),
        ({"completions": 9999, "parallelism": 9999}, [], 500),
    ],
)
def test_how_many_pods_are_made(
    make_job: MakeJob, make_pod: MakePod, job: dict[str, Any], phases: list[str], created: int
) -> None:
    pods = [make_pod(f"p{number}", phase) for number, phase in enumerate(phases)]
    result = plan(make_job(**job), pods, None, age, 10)
    assert (result.create, result.delete) == ((None,) * created, ())


def test_a_failed_job_kills_what_runs_and_counts_it(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [make_pod("a"), make_pod("b", "Pending"), make_pod("c", "Failed"), make_pod("d", deleting=True)]
    result = plan(make_job(completions=9, parallelism=9), pods, JobVerdict(False, "r", "m"), age, 10)
    assert ([pod.uid for pod in result.delete], result.counts, result.create) == (["a", "b"], True, ())


def test_suspending_takes_back_every_pod_uncounted(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [make_pod("a"), make_pod("b", "Pending"), make_pod("c", "Succeeded")]
    result = plan(make_job(completions=5, parallelism=2, suspended=True), pods, None, age, 10)
    assert ({pod.uid for pod in result.delete}, result.counts) == ({"a", "b"}, False)


def test_a_smaller_job_loses_the_pods_that_got_least_far(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [
        make_pod("ready", ready=True),
        make_pod("old", created_at="2026-01-31T11:00:00Z"),
        make_pod("young", created_at="2026-01-31T11:30:00Z"),
        make_pod("bound", "Pending"),
        make_pod("unbound", "Pending", scheduled=False),
    ]
    job = make_job(completions=9, parallelism=2)
    assert {pod.uid for pod in plan(job, pods, None, age, 10).delete} == {"young", "bound", "unbound"}


def test_a_pod_released_for_deletion_is_deleted_after_a_crash(make_job: MakeJob, make_pod: MakePod) -> None:
    result = plan(make_job(), [make_pod("a", tracked=False)], None, age, 10)
    assert [pod.uid for pod in result.delete] == ["a"]


@pytest.mark.parametrize(
    ("job", "pods", "created"),
    [
        ({"completions": 3, "parallelism": 3}, [], (0, 1, 2)),
        ({"completions": 3, "parallelism": 2}, [("a", "Running", 0)], (1,)),
        ({"completions": 4, "parallelism": 2, "completed_indexes": "0,2"}, [], (1, 3)),
        ({"completions": 3, "parallelism": 3}, [("a", "Succeeded", 1), ("b", "Running", 0)], (2,)),
        ({"completions": 2, "parallelism": 2, "completed_indexes": "0,1"}, [], ()),
    ],
)
def test_the_lowest_free_indexes_come_first(
    make_job: MakeJob,
    make_pod: MakePod,
    job: dict[str, Any],
    pods: list[tuple[str, str, int]],
    created: tuple[int, ...],
) -> None:
    views = [make_pod(name, phase, index=index) for name, phase, index in pods]
    assert plan(make_job(indexed=True, **job), views, None, age, 10).create == created


def test_pods_of_a_wrong_or_doubled_index_go(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [
        make_pod("first", index=0, ready=True),
        make_pod("again", index=0),
        make_pod("beyond", index=2),
        make_pod("none"),
    ]
    result = plan(make_job(indexed=True, completions=2, parallelism=2), pods, None, age, 10)
    assert {pod.uid for pod in result.delete} == {"again", "beyond", "none"}
    assert result.create == ()


def test_a_terminating_pod_holds_its_place_only_by_policy(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [make_pod("a", deleting=True, index=0)]
    job = {"indexed": True, "completions": 2, "parallelism": 2}
    assert plan(make_job(**job), pods, None, age, 10).create == (0, 1)
    assert plan(make_job(replaces_only_failed=True, **job), pods, None, age, 10).create == (1,)


@pytest.mark.parametrize(
    ("ages", "wait_s"),
    [
        ([], None),
        ([4], 6.0),
        ([10], None),
        ([25, 4], 16.0),
        ([90, 60, 30, 4], 76.0),
        ([1000] * 20 + [0], 360.0),
    ],
)
def test_backoff_doubles_with_each_failure(
    make_job: MakeJob, make_pod: MakePod, ages: list[int], wait_s: float | None
) -> None:
    pods = [
        make_pod(f"p{n}", "Failed", finished_at=NOW - timedelta(seconds=age)) for n, age in enumerate(ages)
    ]
    result = plan(make_job(backoff_limit=99), pods, None, age, 10)
    assert result.wait_s == wait_s
    assert result.create == ((None,) if wait_s is None else ())


@pytest.mark.parametrize(("ages", "wait_s"), [([3], 2.0), ([4, 3], 2.0), ([3, 3, 3, 3], 5.0)])
def test_a_gang_s_next_attempt_is_not_made_while_the_pod_that_fails_it_is_still_ending(
    make_job: MakeJob, make_pod: MakePod, ages: list[int], wait_s: float
) -> None:
    ended = [NOW - timedelta(seconds=age) for age in ages]
    pods = [make_pod(f"p{n}", "Failed", finished_at=at) for n, at in enumerate(ended)]
    result = plan(make_job(is_gang=True, backoff_limit=99), pods, None, age, 1)
    assert (result.wait_s, result.create) == (wait_s, ())


def test_a_success_ends_the_backoff(make_job: MakeJob, make_pod: MakePod) -> None:
    pods = [
        make_pod("a", "Failed", finished_at=NOW - timedelta(seconds=9)),
        make_pod("b", "Succeeded", finished_at=NOW - timedelta(seconds=5)),
    ]
    assert plan(make_job(completions=3), pods, None, age, 10).create == (None,)
    pods.append(make_pod("c", "Failed", finished_at=NOW - timedelta(seconds=2)))
    assert plan(make_job(completions=3), pods, None, age, 10).wait_s == 8.0


@pytest.mark.parametrize("order", [("Succeeded", "Failed"), ("Failed", "Succeeded")])
def test_a_failure_in_the_second_of_a_success_is_not_after_it(
    make_job: MakeJob, make_pod: MakePod, order: tuple[str, str]
) -> None:
    """Whichever pod is listed first, on a clock that goes on between two looks at it."""
    looks = itertools.count()
    pods = [make_pod(phase, phase, finished_at=NOW) for phase in order]
    todo = plan(make_job(completions=3), pods, None, lambda moment: age(moment) + next(looks) * 1e-6, 10)
    assert (todo.create, todo.wait_s) == ((None,), None)


def test_a_failure_after_a_success_is_so_on_a_clock_that_was_set_back(
    make_job: MakeJob, make_pod: MakePod
) -> None:
    wall, steady_s = NOW, 0.0
    ages = Ages(lambda: wall, lambda: steady_s)
    pods = [make_pod("a", "Succeeded", finished_at=NOW)]
    assert plan(make_job(completions=3), pods, None, ages, 10).wait_s is None
    wall, steady_s = NOW - timedelta(days=1), 5.0
    pods.append(make_pod("b", "Failed", finished_at=wall))
    assert plan(make_job(completions=3), pods, None, ages, 10).wait_s == 10.0


def test_a_deleted_pod_is_replaced_at_once(make_job: MakeJob, make_pod: MakePod) -> None:
    assert plan(make_job(), [make_pod("a", deleting=True)], None, age, 10).create == (None,)


@pytest.mark.parametrize(
    ("job", "wait_s", "look_s"),
    [
        ({}, None, None),
        ({}, 5.0, 5.0),
        ({"deadline_s": 60}, None, 60.0),
        ({"deadline_s": 60}, 5.0, 5.0),
        # It passed since the Job was judged, unless that is written.
        ({"deadline_s": 60, "started_at": NOW - timedelta(seconds=70)}, None, 0.0),
        ({"deadline_s": 60, "started_at": NOW - timedelta(seconds=70), "status": _FAILING}, None, None),
    ],
)
def test_the_next_look_is_at_what_is_due_first(
    make_job: MakeJob, job: dict[str, Any], wait_s: float | None, look_s: float | None
) -> None:
    assert next_look_s(make_job(**job), JobPlan(wait_s=wait_s), age) == look_s
