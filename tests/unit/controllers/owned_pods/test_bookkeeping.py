from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gpuyard.controllers.owned_pods.bookkeeping import LOOK_UP_AFTER_S, Bookkeeping
from gpuyard.kube.objects import ObjectKey

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
FINALIZER = "batch.kubernetes.io/job-tracking"
KEY = ObjectKey("default", "p")


def pod(*, finalizers: tuple[str, ...] = (FINALIZER,), deleted: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": "p",
        "namespace": "default",
        "uid": "u",
        "finalizers": list(finalizers),
    }
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    return {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}}


def job(version: str) -> dict[str, Any]:
    return {"metadata": {"name": "train", "namespace": "default", "resourceVersion": version}}


def test_a_pod_counts_from_before_it_is_created_until_it_is_shown() -> None:
    book = Bookkeeping(lambda: NOW)
    book.creating(pod())
    assert [view.key for view in book.pods([])] == [KEY]
    book.created(pod())
    assert (len(book.pods([])), book.waiting) == (1, True)
    book.shown(pod())
    assert (book.pods([]), book.waiting, book.seen) == ([], False, {KEY})


def test_an_event_may_come_before_the_answer() -> None:
    book = Bookkeeping(lambda: NOW)
    book.creating(pod())
    book.shown(pod())
    book.gone(pod())
    book.created(pod())
    assert (book.pods([]), book.waiting, book.seen) == ([], False, set())


def test_a_refused_pod_is_forgotten() -> None:
    book = Bookkeeping(lambda: NOW)
    book.creating(pod())
    book.not_created(KEY)
    assert book.pods([]) == []


def test_a_pod_that_no_event_shows_is_to_be_looked_up() -> None:
    now_s = 0.0
    book = Bookkeeping(lambda: NOW, lambda: now_s)
    book.creating(pod())
    assert book.overdue() == []
    now_s = LOOK_UP_AFTER_S
    assert book.overdue() == [KEY]
    book.created(pod())
    assert book.overdue() == []


def test_a_released_pod_stays_released_until_an_event_agrees() -> None:
    book = Bookkeeping(lambda: NOW)
    book.releasing("u")
    book.shown(pod())
    assert [view.tracked for view in book.pods([pod()])] == [False]
    book.shown(pod(finalizers=()))
    assert [view.tracked for view in book.pods([pod()])] == [True]


def test_a_release_that_failed_is_taken_back() -> None:
    book = Bookkeeping(lambda: NOW)
    book.releasing("u")
    book.not_released("u")
    assert [view.tracked for view in book.pods([pod()])] == [True]


def test_a_deleted_pod_is_not_active_before_an_event_says_so() -> None:
    book = Bookkeeping(lambda: NOW)
    book.deleting("u")
    book.shown(pod())
    assert [view.active for view in book.pods([pod()])] == [False]
    book.shown(pod(deleted=True))
    book.deleting("u")
    book.not_deleted("u")
    assert [view.active for view in book.pods([pod()])] == [True]


def test_a_job_that_the_controller_replaced_is_read_from_its_own_write() -> None:
    book = Bookkeeping(lambda: NOW)
    assert book.newest(job("1")) == job("1")
    book.wrote(job("1"), job("2"))
    book.wrote(job("2"), job("5"))
    assert [book.newest(job(version)) for version in ("1", "2", "5")] == [job("5")] * 3
    assert book.newest(job("6")) == job("6")
    assert book.newest(job("1")) == job("1")
