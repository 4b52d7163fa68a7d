from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.store.lock import FolderLock

_HOLDER = """
import sys
from pathlib import Path
from gpuyard.local.store.lock import FolderLock
held = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_file_says_who_holds_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    lock.release()


def test_a_second_one_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(errors.StoreLocked, match=rf"(?m){tmp_path} is in use by .* pid {holder.pid}$"):
            FolderLock(path)
        holder.kill()
    FolderLock(path).release()


def test_somebody_who_only_looks_does_not_keep_the_owner_out(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        done = threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN))
        done.start()
        lock = FolderLock(tmp_path / "lock", patience_s=30)
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        lock.release()
        done.join()


def test_a_long_pid_of_the_last_owner_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("123456789012345\n")
    lock = FolderLock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_process_that_outlives_the_owner_does_not_hold_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "lock")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        with pytest.raises(errors.StoreLocked):
            FolderLock(tmp_path / "lock")
        lock.release()
        again = FolderLock(tmp_path / "lock")
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        again.release()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(errors.StoreUnwritable, match="Not a directory") as caught:
        FolderLock(tmp_path / "data" / "lock")
    assert "GPUYARD_HOME" in caught.value.remedy


def test_a_fifo_in_its_place_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(errors.StoreUnwritable, match="lock isn't a regular file") as caught:
        FolderLock(tmp_path / "lock")
    assert f"remove {tmp_path / 'lock'}" in caught.value.remedy
