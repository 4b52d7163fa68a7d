"""What file systems can do, tried on real ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard.local.disk import KEEP_SIZE, disk_warning, fallocate, frees_fronts, shortage
from tests.small_disk import mounted


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """A file system without fallocate."""
    folder = tmp_path / "ramfs"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "ramfs", "none", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("can't mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("megabytes", "full", "said"),
    [
        (4, True, "is full: 4 MiB are free, 8 MiB are needed; until then new runs may be refused, or wait"),
        (20, False, "is nearly full: 20 MiB are free; below 8 MiB new runs may be refused, or wait"),
        (100, False, ""),
    ],
)
def test_what_is_said_by_what_is_free(megabytes: int, full: bool, said: str) -> None:
    with mounted("tmpfs", megabytes) as folder:
        assert bool(shortage(folder)) == full
        assert disk_warning(folder) == (said and f"the disk that holds {folder} {said}")


def test_nobody_can_tell(tmp_path: Path) -> None:
    assert disk_warning(tmp_path / "gone") == ""


def test_a_front_is_freed_where_the_file_system_can(tmp_path: Path) -> None:
    assert frees_fronts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_can_not_free_a_front(ramfs: Path) -> None:
    assert not frees_fronts(ramfs)
    assert list(ramfs.iterdir()) == []


def test_what_can_not_be_tried_counts_as_able(tmp_path: Path) -> None:
    assert frees_fronts(tmp_path / "gone")


def test_promised_bytes_leave_the_size(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        fallocate(file.fileno(), KEEP_SIZE, 0, 8192)
        assert os.fstat(file.fileno()).st_size == 0
        assert os.fstat(file.fileno()).st_blocks * 512 >= 8192
    with pytest.raises(OSError, match="Bad file descriptor"):
        fallocate(-1, KEEP_SIZE, 0, 8192)
