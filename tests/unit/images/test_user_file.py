from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard.images.user_file import read_user_file


def test_a_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\0y")
    (tmp_path / "b").symlink_to("a")
    assert read_user_file(tmp_path / "b") == b"x\0y"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(OSError, match="it isn't a regular file"):
            read_user_file(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_user_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_user_file(tmp_path / "nothing")


def test_what_nobody_wrote_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 64 MiB"):
        read_user_file(tmp_path / "a")
