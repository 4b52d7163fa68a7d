"""The SQLite file: opened with care, read once at the start, then only appended to and compacted."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from gpuyard import errors
from gpuyard.atomic_files import sync_folder
from gpuyard.local.store.lock import full, unusable
from gpuyard.local.store.reserve import (
    CHECKPOINT_PAGES,
    RESERVE_BYTES,
    Reserve,
    hold_log,
    leave_log,
    log_has_changes,
    log_of,
    prepare_log,
)
from gpuyard.local.store.schema import MIGRATIONS, migrate, version_of
from gpuyard.regular_files import open_regular

#: How much a commit survives: FULL a power cut, OFF only the death of the process.
Synchronous = Literal["FULL", "OFF"]

#: How long to wait for another program that has the file open.
_BUSY_S = 0.5


class Row(NamedTuple):
    """One revision as the table holds it; `prev_revision` is None for "the key's tombstone, if any"."""

    revision: int
    resource: str
    namespace: str
    name: str
    create_revision: int
    prev_revision: int | None
    deleted: bool
    value: bytes


class Fault(NamedTuple):
    """A row that was set aside, and what is wrong with it."""

    revision: int
    resource: str
    namespace: str
    name: str
    fault: str


class Database:
    """Owns the connection. Every method, `__init__` too, must be called on one and the same thread.

    The connection locks the file for itself: nobody may change it behind the memory's back, and SQLite then
    needs no shared-memory file, whose pages a full disk would turn into SIGBUS.
    """

    def __init__(
        self, path: Path, synchronous: Synchronous = "FULL", *, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        """Opens the file, made anew when there is none, and brings it to the newest schema.

        Raises:
            StoreDamaged: the file isn't a database, not gpuyard's, or has unreadable pages.
            StoreTooNew: a later release wrote it.
            StoreLocked: another program has it open.
            StoreUnwritable, StoreFull: as they say.
        """
        self.path = path
        with _translated(path):
            _check_beside(path)
            if not path.exists():
                _make(path)
            elif path.stat().st_mode & 0o077:
                path.chmod(0o600)
            _check(path)
            prepare_log(path)
            self._connection = _connect(path)
            try:
                self._connection.execute(f"PRAGMA synchronous = {synchronous}")
                self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                migrate(self._connection)
                # Finds out about a file that can't be written now, not at the first write.
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("ROLLBACK")
                self._reserve = Reserve(path, self._connection, reserve_bytes)
            except BaseException:
                self._connection.close()
                raise
            self._reserve.refill()

    def rows(self) -> Iterator[Row]:
        """Every row that compaction has left, oldest first."""
        with _translated(self.path):
            for row in self._connection.execute("SELECT * FROM objects ORDER BY revision"):
                yield Row(*row)

    def set_aside(self, faults: Sequence[tuple[int, str]]) -> None:
        """Moves rows (revision, what is wrong) out of the objects, all or nothing."""
        connection = self._connection
        with _translated(self.path):
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_SET_ASIDE, ((fault, revision) for revision, fault in faults))
                connection.executemany("DELETE FROM objects WHERE revision = ?", ((r,) for r, _ in faults))
                connection.execute("COMMIT")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def faults(self) -> list[Fault]:
        """The rows that were set aside, oldest first."""
        with _translated(self.path):
            found = self._connection.execute(
                "SELECT revision, resource, namespace, name, fault FROM set_aside"
            )
            return [Fault(*row) for row in found]

    def last_revision(self) -> int:
        """The highest revision ever committed, whether or not its row is still there."""
        with _translated(self.path):
            found = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'objects'")
            return int((found.fetchone() or (0,))[0])

    def commit(self, rows: Sequence[Row], doomed: Sequence[int], *, may_use_reserve: bool = False) -> None:
        """Appends `rows` and deletes the revisions in `doomed`, all or nothing, durable on return.

        Raises:
            StoreError: nothing was written; StoreFull when that is why.
        """
        with _translated(self.path):
            if not may_use_reserve and self._reserve.is_in_use:
                self._reserve.refill()
                if self._reserve.is_in_use:
                    raise full(self.path)
            try:
                self._commit(rows, doomed, 0)
            except (sqlite3.Error, OSError) as error:
                if not (may_use_reserve and _is_full(error)):
                    raise
                # The whole log for this one.
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._commit(rows, doomed, sum(len(row.value) for row in rows) + 1)
                self._reserve.count()
            self._reserve.refill()

    def _commit(self, rows: Sequence[Row], doomed: Sequence[int], reserve_bytes: int) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            if reserve_bytes:
                self._reserve.give_up(reserve_bytes)
            connection.executemany(
                _INSERT, ((*row[:5], row.prev_revision, *row[1:4], *row[6:]) for row in rows)
            )
            connection.executemany("DELETE FROM objects WHERE revision = ?", ((r,) for r in doomed))
            self._reserve.claim()
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Writes the log back into the file and closes it."""
        with _translated(self.path):
            hold_log(self.path)
            self._connection.close()
            self._reserve.close()
            leave_log(self.path)


_SET_ASIDE = """
    INSERT OR REPLACE INTO set_aside
    SELECT revision, resource, namespace, name, deleted, value, ? FROM objects WHERE revision = ?
"""

_INSERT = """
    INSERT INTO objects VALUES (?, ?, ?, ?, ?, coalesce(?, (
        SELECT max(revision) FROM objects WHERE resource = ? AND namespace = ? AND name = ? AND deleted
    ), 0), ?, ?)
"""


def _make(path: Path) -> None:
    """Makes an empty database beside `path` and moves it there whole.

    So an empty or half-made file at `path` is never one of ours, and is reported instead of overwritten.

    Raises:
        StoreDamaged: the database is gone but its log is there. SQLite would play it into the new one.
    """
    if log_has_changes(path):
        raise _damaged(path, f"the file is missing and its log {log_of(path).name} isn't")
    new = path.with_name(path.name + ".new")
    for stale in (new, new.with_name(new.name + "-wal"), new.with_name(new.name + "-journal")):
        stale.unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    connection = _connect(new)
    try:
        migrate(connection)
    finally:
        connection.close()
    new.rename(path)
    sync_folder(path.parent)


def _check_beside(path: Path) -> None:
    """Refuses what is no file under the names that SQLite opens by itself: it would wait for a FIFO.

    Raises:
        StoreUnwritable: there is one.
    """
    for suffix in ("-wal", "-wal.kept", "-journal"):
        file = path.with_name(path.name + suffix)
        try:
            os.close(open_regular(file, follow_links=True))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise unusable(file, error) from error


def _check(path: Path) -> None:
    """Reads the whole file through a connection that can't write, so a bad one stays as it is.

    Raises:
        StoreDamaged, StoreTooNew: see `Database`.
    """
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise _damaged(path, "the file is empty")
    # Without locks, which the folder's lock makes up for: a connection that can't write gets none of those
    # without which SQLite needs its shared-memory file, and with it space.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&vfs=unix-none", uri=True, isolation_level=None
    )
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = version_of(connection)
        if version > len(MIGRATIONS):
            raise errors.StoreTooNew(
                f"{path} was written by a later release: its schema is version {version}, "
                f"this release knows up to {len(MIGRATIONS)}",
                remedy="upgrade gpuyard, or set GPUYARD_HOME to another folder",
            )
        if version == 0:
            raise _damaged(path, "it isn't a database of gpuyard")
        complaint = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if complaint != "ok":
            raise _damaged(path, complaint)
        # SQLite reads the missing end of the last page as zeros. A full disk can cut a page short too, but
        # then the log still holds it.
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        if size_bytes % page_bytes and not log_has_changes(path):
            raise _damaged(path, "its last page is cut short")
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turns errors of SQLite and of the system into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _meaning(path, error) from error
    except OSError as error:
        raise unusable(path, error) from error


def _is_full(error: sqlite3.Error | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _meaning(path: Path, error: sqlite3.Error) -> errors.StoreError:
    code = getattr(error, "sqlite_errorcode", 0)
    if _is_full(error):
        return full(path)
    if (
        code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or code == sqlite3.SQLITE_IOERR_SHORT_READ
    ):
        return _damaged(path, str(error))
    if code & 0xFF == sqlite3.SQLITE_BUSY:
        return errors.StoreLocked(
            f"{path} is open in another program", remedy="close that program, then try again"
        )
    if code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return errors.StoreUnwritable(
            f"can't write {path}: {error}",
            remedy="give this user write permission on the file and its folder, "
            "or set GPUYARD_HOME to a folder that has it",
        )
    return errors.StoreError(f"{path}: {error}", remedy="look for trouble with the disk in the kernel's log")


def _damaged(path: Path, complaint: str) -> errors.StoreDamaged:
    aside = path.parent / "damaged"
    return errors.StoreDamaged(
        f"{path} is damaged: {complaint}; nothing was changed",
        remedy=f"move it aside, then the yard starts empty: mkdir {aside} && mv {path}* {aside}/; "
        "or put a backup in its place",
    )
