"""The database's tables, and the steps from each released version to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

#: Step n (counted from 0) makes version n + 1 out of version n. Append; never change one that was released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Append-only: the row with the highest revision of a key is its state, `deleted` marks the end.
        # The UNIQUE constraint makes compare-and-swap hold in the database too: one successor per row.
        """
        CREATE TABLE objects (
            revision INTEGER PRIMARY KEY AUTOINCREMENT,
            resource TEXT NOT NULL,
            namespace TEXT NOT NULL,
            name TEXT NOT NULL,
            create_revision INTEGER NOT NULL,
            prev_revision INTEGER NOT NULL,
            deleted INTEGER NOT NULL,
            value BLOB NOT NULL,
            UNIQUE (resource, namespace, name, prev_revision)
        )
        """,
    ),
    (
        # Rows whose value can't be read any more, as they were found: out of the way, and not lost.
        """
        CREATE TABLE set_aside (
            revision INTEGER PRIMARY KEY,
            resource TEXT NOT NULL,
            namespace TEXT NOT NULL,
            name TEXT NOT NULL,
            deleted INTEGER NOT NULL,
            value BLOB NOT NULL,
            fault TEXT NOT NULL
        )
        """,
    ),
    (
        # Filler, which is given up on a full disk.
        "CREATE TABLE reserve (piece INTEGER PRIMARY KEY, filler BLOB NOT NULL)",
    ),
)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version of the file; 0 for one that gpuyard hasn't written."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Brings the file to the newest version, each step in a transaction of its own.

    The connection must be in autocommit mode (`isolation_level=None`).
    """
    for number in range(version_of(connection), len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
