from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.store.database import Database, Row


def _row(revision: int, name: str = "a", prev: int | None = None, *, deleted: bool = False) -> Row:
    return Row(revision, "pods", "default", name, 1, prev, deleted, b"x" * 500)


def _make(path: Path, count: int = 50) -> None:
    with closing(Database(path)) as database:
        database.commit([_row(n, f"pod-{n}") for n in range(1, count + 1)], [])


def _files(folder: Path) -> dict[str, bytes]:
    """Everything but the shared-memory index, which holds no data."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith("-shm")}


def test_rows_come_back_in_order_after_a_reopen(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Database(path)) as database:
        database.commit([_row(1), _row(2, prev=1), _row(3, prev=2, deleted=True)], [])
    with closing(Database(path)) as database:
        assert [(r.revision, r.prev_revision, r.deleted) for r in database.rows()] == [
            (1, 0, 0),
            (2, 1, 0),
            (3, 2, 1),
        ]
        assert database.last_revision() == 3


def test_a_name_used_again_follows_its_tombstone(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "store.db")) as database:
        database.commit([_row(1), _row(2, prev=1, deleted=True), _row(3)], [])
        assert [r.prev_revision for r in database.rows()] == [0, 1, 2]


def test_the_table_itself_refuses_a_second_successor_and_rolls_all_back(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "store.db")) as database:
        database.commit([_row(1), _row(2, prev=1)], [])
        for bad in (_row(4, prev=1), _row(4)):
            with pytest.raises(errors.StoreError, match="UNIQUE"):
                database.commit([_row(3, "other"), bad], [1])
        assert [r.revision for r in database.rows()] == [1, 2]
        database.commit([_row(3, "other")], [])


def test_the_last_revision_outlives_its_row(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Database(path)) as database:
        assert database.last_revision() == 0
        database.commit([_row(1), _row(2, prev=1, deleted=True)], [])
        database.commit([], [1, 2])
    with closing(Database(path)) as database:
        assert list(database.rows()) == []
        assert database.last_revision() == 2


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with closing(Database(tmp_path / "store.db")) as database:
            database.commit([_row(1)], [])
            modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    finally:
        os.umask(previous)
    assert {"store.db", "store.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_mode_that_is_too_wide_is_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _make(path)
    path.chmod(0o644)
    Database(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_kill_during_the_first_start_left_is_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("store.db.new", "store.db.new-wal"):
        (tmp_path / name).write_bytes(b"half")
    Database(tmp_path / "store.db").close()
    assert not list(tmp_path.glob("*.new*"))


@pytest.mark.parametrize(
    "content", [b"", b"this is not a database\n" * 400, b"SQLite format 3\0", os.urandom(9000)]
)
def test_a_file_that_is_no_database_is_reported_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(errors.StoreDamaged, match=str(path)) as caught:
        Database(path)
    assert f"mv {path}* " in caught.value.remedy
    assert _files(tmp_path)["store.db"] == content


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(errors.StoreDamaged, match="isn't a database of gpuyard"):
        Database(path)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]


@pytest.mark.parametrize(
    ("kept", "with_log"), [(0.999, False), (0.5, False), (0.1, False), (0.5, True), (0.1, True)]
)
def test_a_truncated_file_is_reported_and_left_alone(tmp_path: Path, kept: float, with_log: bool) -> None:
    path = tmp_path / "made" / "store.db"
    path.parent.mkdir()
    _make(path)
    with closing(Database(path)) as database:
        database.commit([_row(60, "in-the-log")], [])
        copied = tmp_path / "copied"
        shutil.copytree(path.parent, copied)
    damaged = copied / "store.db"
    os.truncate(damaged, int(damaged.stat().st_size * kept))
    if not with_log:
        (copied / "store.db-wal").unlink()
    before = _files(copied)
    with pytest.raises(errors.StoreDamaged, match=str(damaged)):
        Database(damaged)
    # The check may leave an empty log where there was none.
    assert {name: data for name, data in _files(copied).items() if data} == before


def test_overwritten_pages_are_reported_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _make(path)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(4096))
    before = path.read_bytes()
    with pytest.raises(errors.StoreDamaged):
        Database(path)
    assert path.read_bytes() == before


def test_a_log_without_its_database_is_not_played_into_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(Database(path)) as database:
        database.commit([_row(1)], [])
        log = (tmp_path / "store.db-wal").read_bytes()
    path.unlink()
    (tmp_path / "store.db-wal").write_bytes(log)
    with pytest.raises(errors.StoreDamaged, match=r"its log store\.db-wal isn't"):
        Database(path)
    assert (tmp_path / "store.db-wal").read_bytes() == log
    assert not path.exists()


@pytest.mark.parametrize("suffix", ["-wal", "-wal.kept", "-journal"])
def test_a_fifo_beside_it_is_named(tmp_path: Path, suffix: str) -> None:
    _make(tmp_path / "store.db")
    (tmp_path / f"store.db{suffix}").unlink(missing_ok=True)
    os.mkfifo(tmp_path / f"store.db{suffix}")
    with pytest.raises(errors.StoreUnwritable, match=f"store.db{suffix} isn't a regular file"):
        Database(tmp_path / "store.db", "OFF")


def test_the_remedy_for_damage_works(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(errors.StoreDamaged) as caught:
        Database(path)
    command = caught.value.remedy.split(": ")[1].split(";")[0]
    assert os.system(command) == 0
    Database(path).close()
    assert (tmp_path / "damaged" / "store.db").read_bytes() == b"garbage" * 1000


def test_a_later_releases_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _make(path)
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(errors.StoreTooNew, match="version 99"):
        Database(path)
    assert path.read_bytes() == before


def test_a_file_that_another_program_has_open_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _make(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(errors.StoreLocked, match="another program"):
            Database(path)


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Permissions don't hold root back: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder that `_as_nobody` can read and not write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_without_write_permission(foreign_folder: Path) -> None:
    with _as_nobody(), pytest.raises(errors.StoreUnwritable, match="Permission denied"):
        Database(foreign_folder / "store.db")


def test_a_database_of_somebody_else_is_found_out_at_the_start(foreign_folder: Path) -> None:
    path = foreign_folder / "store.db"
    foreign_folder.chmod(0o755)
    _make(path)
    path.chmod(0o400)
    with _as_nobody(), pytest.raises(errors.StoreUnwritable) as caught:
        Database(path)
    assert str(path) in caught.value.message
