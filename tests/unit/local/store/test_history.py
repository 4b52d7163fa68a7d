from __future__ import annotations

import asyncio

import pytest

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.history import EventHistory
from gpuyard.local.store.values import Event, EventType, Stored


def _event(type_: EventType, revision: int, previous: int | None = None) -> Event:
    def state(at: int) -> Stored:
        return Stored("pods", ObjectKey("default", "a"), b"", at, 1)

    return Event(type_, state(revision), None if previous is None else state(previous))


def _filled(limit: int) -> EventHistory:
    """Revisions 1 to 5 of one object's life, and its next one's first."""
    history = EventHistory(limit)
    for event in (
        _event("ADDED", 1),
        _event("MODIFIED", 2, 1),
        _event("MODIFIED", 3, 2),
        _event("DELETED", 4, 3),
        _event("ADDED", 5),
    ):
        history.append(event)
    return history


def _revisions(history: EventHistory) -> list[int]:
    found = []
    position = history.compacted
    while (event := history.after(position)) is not None:
        position = event.stored.revision
        found.append(position)
    return found


def test_it_keeps_the_last_ones() -> None:
    assert _revisions(_filled(10)) == [1, 2, 3, 4, 5]
    history = _filled(2)
    assert _revisions(history) == [4, 5]
    assert history.compacted == 3


def test_older_and_later_revisions_than_it_holds_are_gone() -> None:
    history = _filled(2)
    with pytest.raises(errors.Gone) as caught:
        history.after(2)
    assert caught.value.message == "too old resource version: 2 (3)"
    with pytest.raises(errors.Gone, match="too large resource version: 6, current: 5"):
        history.after(6)
    assert history.after(5) is None


@pytest.mark.parametrize(("limit", "garbage"), [(10, []), (4, []), (3, [1]), (2, [1, 2]), (1, [1, 2, 3, 4])])
def test_rows_become_garbage_when_no_event_shows_them_any_more(limit: int, garbage: list[int]) -> None:
    """The previous state of an event that is still held must stay, or a restart couldn't show it."""
    assert _filled(limit).garbage(10) == garbage


def test_a_sweep_is_bounded_and_goes_on_where_it_was() -> None:
    history = _filled(1)
    assert history.garbage(1) == [1, 2]
    history.swept(2)
    assert history.garbage(1) == [3, 4]


def test_little_garbage_waits_for_more() -> None:
    history = EventHistory(100)
    history.append(_event("ADDED", 1))
    for revision in range(2, 105):
        history.append(_event("MODIFIED", revision, revision - 1))
    assert history.garbage(1) == []
    for revision in (105, 106):
        history.append(_event("MODIFIED", revision, revision - 1))
    assert history.garbage(1) == [1, 2, 3, 4, 5]


def test_what_is_forgotten_is_gone_and_its_rows_are_garbage() -> None:
    history = _filled(10)
    history.forget_until(8)
    assert (history.compacted, history.revision) == (8, 8)
    assert history.garbage(10) == [1, 2, 3, 4]
    with pytest.raises(errors.Gone):
        history.after(5)


async def test_everybody_who_waits_is_woken() -> None:
    history = _filled(10)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = [group.create_task(history.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        history.notify()


def test_it_keeps_no_more_bytes_than_it_may() -> None:
    history = EventHistory(100, 50)
    for revision in range(1, 21):
        stored = Stored("pods", ObjectKey("default", "a"), b"x" * 10, revision, 1)
        previous = stored._replace(revision=revision - 1) if revision > 1 else None
        history.append(Event("MODIFIED" if previous else "ADDED", stored, previous))
    assert _revisions(history) == [16, 17, 18, 19, 20]
    assert history.garbage(1) == list(range(1, 15))[: len(history.garbage(1))]
    assert history.garbage(1)
    large = Stored("pods", ObjectKey("default", "b"), b"x" * 1000, 21, 21)
    history.append(Event("ADDED", large, None))
    assert _revisions(history) == [21]
