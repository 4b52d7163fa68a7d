from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.database import Database, Row
from gpuyard.local.store.history import EventHistory
from gpuyard.local.store.loading import load
from gpuyard.local.store.values import Event


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "store.db")) as made:
        yield made


def _life(name: str, revisions: Sequence[int], *, deleted: bool = False) -> list[Row]:
    """Rows of one object: made at the first revision, changed at the others, deleted at the last if asked."""
    return [
        Row(
            revision,
            "pods",
            "default",
            name,
            revisions[0],
            revisions[i - 1] if i else None,
            deleted and i == len(revisions) - 1,
            b"%d" % revision,
        )
        for i, revision in enumerate(revisions)
    ]


def _events(history: EventHistory) -> list[Event]:
    found: list[Event] = []
    position = history.compacted
    while (event := history.after(position)) is not None:
        position = event.stored.revision
        found.append(event)
    return found


def test_events_come_back_with_their_previous_states(database: Database) -> None:
    database.commit(sorted(_life("a", [1, 3]) + _life("b", [2, 4, 5], deleted=True)), [])
    objects, history = load(database, 10)
    assert [
        (e.type, e.stored.key.name, e.stored.revision, e.previous and e.previous.value)
        for e in _events(history)
    ] == [
        ("ADDED", "a", 1, None),
        ("ADDED", "b", 2, None),
        ("MODIFIED", "a", 3, b"1"),
        ("MODIFIED", "b", 4, b"2"),
        ("DELETED", "b", 5, b"4"),
    ]
    assert [(o.key.name, o.revision, o.create_revision) for o in objects.list("pods", None)] == [("a", 3, 1)]


def test_states_are_shared_between_the_history_and_the_objects(database: Database) -> None:
    database.commit(_life("a", [1, 2, 3]), [])
    objects, history = load(database, 10)
    events = _events(history)
    assert events[2].previous is events[1].stored
    assert objects.get("pods", ObjectKey("default", "a")) is events[2].stored


def test_the_history_starts_behind_the_last_gap(database: Database) -> None:
    database.commit(sorted(_life("old", [1]) + _life("a", [2, 3]) + _life("b", [4]) + _life("c", [5])), [2])
    database.commit([], [4])
    objects, history = load(database, 10)
    assert [e.stored.revision for e in _events(history)] == [5]
    assert history.compacted == 4
    assert [o.key.name for o in objects.list("pods", None)] == ["a", "c", "old"]


def test_a_change_whose_previous_state_is_compacted_is_not_in_the_history(database: Database) -> None:
    database.commit(_life("a", [1, 2]) + _life("b", [3]), [])
    database.commit([], [1])
    _, history = load(database, 10)
    assert [e.stored.revision for e in _events(history)] == [3]


def test_a_deletion_whose_previous_state_is_compacted_is_swept_too(database: Database) -> None:
    database.commit(_life("a", [1, 2], deleted=True) + _life("b", [3]), [])
    database.commit([], [1])
    objects, history = load(database, 10)
    assert history.garbage(10) == [2]
    assert [o.key.name for o in objects.list("pods", None)] == ["b"]


def test_what_the_last_run_did_not_sweep_is_found_again(database: Database) -> None:
    database.commit(_life("a", [1, 2, 3, 4, 5]), [])
    _, history = load(database, 2)
    assert history.garbage(10) == [1, 2]


def test_revisions_go_on_although_the_newest_rows_are_missing(database: Database) -> None:
    database.commit(_life("a", [1]) + _life("b", [2, 3], deleted=True), [])
    database.commit([], [2, 3])
    _, history = load(database, 10)
    assert (history.revision, history.compacted) == (3, 3)


def test_an_empty_database(database: Database) -> None:
    objects, history = load(database, 10)
    assert (history.revision, history.compacted) == (0, 0)
    assert objects.list("pods", None) == []
