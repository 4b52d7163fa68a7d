"""Space that the store has before it needs it, so that a full disk stops no end, no deletion and no start.

SQLite needs space in two places, and either is asked of the file system early:

    store.db-wal    has its full size from the start and is written over from its front after each checkpoint;
                    it outlives a clean end, with nothing in it
    store.db        grows only by what the file system has promised before the commit, so that a checkpoint
                    never lacks any; pieces of filler in its table `reserve` are given up for changes that
                    have a right to them, and made again once there is space

On file systems that write every block anew (btrfs, ZFS) a promise holds less.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from gpuyard.regular_files import open_regular

#: Enough for the ends of about a hundred runs, and for the heartbeats of the history beside them.
RESERVE_BYTES = 4 << 20
_PIECE_BYTES = 64 << 10
#: Made in one transaction, so that they fit into the log.
_PIECES_AT_ONCE = 16
_LOG_BYTES = 4 << 20
#: A checkpoint comes as soon as half of the log is used: the other half takes one large commit.
CHECKPOINT_PAGES = 500
_GROWTH_BYTES = 64 << 10
#: WAL_HDRSIZE of SQLite. Without its magic number the log counts as empty.
_LOG_HEADER_BYTES = 32


class Reserve:
    """Owns the space beside one connection. It holds a descriptor of the file, so close it after that.

    Args:
        path: of the database, which has its tables.
        connection: in autocommit mode.
        reserve_bytes: how much to keep.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, reserve_bytes: int) -> None:
        self._connection = connection
        self._page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
        self._wanted = reserve_bytes // _PIECE_BYTES
        self._kept: int = connection.execute("SELECT count(*) FROM reserve").fetchone()[0]
        # One descriptor for all the time: to close it would take SQLite's locks away.
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        with suppress(OSError):  # what was written before there was a reserve
            os.posix_fallocate(self._file, 0, max(self._pages() * self._page_bytes, 1))

    @property
    def is_in_use(self) -> bool:
        """Whether a part was given up, so that what is free belongs to changes with a right to it. One that
        never could be made, on a tiny disk, counts as none."""
        return 0 < self._kept < self._wanted

    def close(self) -> None:
        """Lets go of the file, once the connection is closed."""
        os.close(self._file)

    def claim(self) -> None:
        """Has the file system promise what the open transaction adds to the file.

        Raises:
            OSError: it can't; the transaction must be rolled back.
        """
        needed, size = self._pages() * self._page_bytes, os.fstat(self._file).st_size
        if needed > size:
            _extend(self._file, size, needed + _GROWTH_BYTES)

    def give_up(self, needed_bytes: int) -> None:
        """Turns pieces into free pages, in the open transaction, for rows of so many bytes."""
        # Each row may take a page of its own besides.
        pieces = 2 + 2 * needed_bytes // _PIECE_BYTES
        self._connection.execute(
            "DELETE FROM reserve WHERE piece IN (SELECT piece FROM reserve LIMIT ?)", (pieces,)
        )

    def count(self) -> None:
        """Looks again how much is left, after a commit that gave something up."""
        self._kept = self._connection.execute("SELECT count(*) FROM reserve").fetchone()[0]

    def refill(self) -> None:
        """Makes what is missing, as far as there is space. Never fails for want of it."""
        connection = self._connection
        while self._kept < self._wanted:
            count = min(_PIECES_AT_ONCE, self._wanted - self._kept)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO reserve (filler) VALUES (?)", [(_FILLER,)] * count)
                self.claim()
                connection.execute("COMMIT")
            except (sqlite3.Error, OSError):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                return
            self._kept += count

    def _pages(self) -> int:
        pages: int = self._connection.execute("PRAGMA page_count").fetchone()[0]
        return pages


_FILLER = bytes(_PIECE_BYTES - 4096)


def log_of(path: Path) -> Path:
    """SQLite's log of a database."""
    return path.with_name(path.name + "-wal")


def log_has_changes(path: Path) -> bool:
    """Whether the log of a database may hold something that isn't in the file yet."""
    try:
        with os.fdopen(open_regular(log_of(path)), "rb") as file:
            return any(file.read(_LOG_HEADER_BYTES))
    except FileNotFoundError:
        return False


def prepare_log(path: Path) -> None:
    """Gives a database's log its full size before it is opened, if there is space."""
    log, kept = log_of(path), _kept(path)
    if kept.exists():  # the last end was cut short
        if log.exists():
            kept.unlink()
        else:
            _blank(kept)
            kept.rename(log)
    with suppress(OSError):
        descriptor = open_regular(log, os.O_RDWR | os.O_CREAT)
        try:
            size = os.fstat(descriptor).st_size
            if size < _LOG_BYTES:
                _extend(descriptor, size, _LOG_BYTES)
        finally:
            os.close(descriptor)


def hold_log(path: Path) -> None:
    """Gives the log a second name, so that its space outlives the end of the last connection."""
    with suppress(OSError):
        _kept(path).unlink(missing_ok=True)
        os.link(log_of(path), _kept(path))


def leave_log(path: Path) -> None:
    """Puts the log back, with nothing in it, after the last connection has removed its first name."""
    log, kept = log_of(path), _kept(path)
    with suppress(OSError):
        if log.exists():  # it couldn't be written back: it counts
            kept.unlink(missing_ok=True)
        else:
            _blank(kept)
            kept.rename(log)


def _extend(descriptor: int, size: int, wanted: int) -> None:
    """Has the file system promise the bytes behind the end of a file, all or none.

    Raises:
        OSError: it can't.
    """
    try:
        os.posix_fallocate(descriptor, size, wanted - size)
    except OSError:
        os.ftruncate(descriptor, size)  # ext4 leaves what it could get
        raise


def _kept(path: Path) -> Path:
    return path.with_name(path.name + "-wal.kept")


def _blank(log: Path) -> None:
    """Has the log count as empty: whoever puts another database beside it mustn't get its changes."""
    descriptor = open_regular(log, os.O_WRONLY)
    try:
        os.pwrite(descriptor, bytes(_LOG_HEADER_BYTES), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
