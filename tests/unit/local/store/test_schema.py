from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gpuyard.local.store.schema import MIGRATIONS, migrate, version_of


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as made:
        yield made


def test_a_new_file_gets_the_newest_version(connection: sqlite3.Connection) -> None:
    assert version_of(connection) == 0
    migrate(connection)
    assert version_of(connection) == len(MIGRATIONS)
    connection.execute("SELECT revision, prev_revision, value FROM objects")


def test_only_the_missing_steps_run_and_data_stays(connection: sqlite3.Connection) -> None:
    oldest = (("CREATE TABLE objects (revision INTEGER PRIMARY KEY, value BLOB NOT NULL)",),)
    migrate(connection, oldest)
    connection.execute("INSERT INTO objects VALUES (7, x'01')")

    newer = (
        *oldest,
        ("ALTER TABLE objects ADD COLUMN resource TEXT NOT NULL DEFAULT 'pods'",),
        ("CREATE TABLE extra (text TEXT)", "INSERT INTO extra SELECT resource FROM objects"),
    )
    migrate(connection, newer)

    assert version_of(connection) == 3
    assert connection.execute("SELECT * FROM objects").fetchall() == [(7, b"\x01", "pods")]
    assert connection.execute("SELECT * FROM extra").fetchall() == [("pods",)]
    migrate(connection, newer)
    assert connection.execute("SELECT count(*) FROM extra").fetchone() == (1,)


def test_a_step_that_fails_leaves_the_version_before_it(connection: sqlite3.Connection) -> None:
    broken = (("CREATE TABLE a (b)",), ("CREATE TABLE c (d)", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, broken)
    assert version_of(connection) == 1
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
