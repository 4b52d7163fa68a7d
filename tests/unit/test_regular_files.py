from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gpuyard.regular_files import open_regular, read_regular


def test_a_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\0y")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "b") == b"x\0y"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    assert read_regular(tmp_path / "a", max_bytes=1 << 20) == bytes(1 << 20)
    (tmp_path / "a").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(OSError, match="it is larger than 1 MiB"):
        read_regular(tmp_path / "a", max_bytes=1 << 20)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(OSError, match="it isn't a regular file"):
            read_regular(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "nothing")


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_what_is_no_file_is_opened_by_nobody(tmp_path: Path, flags: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name in ("pipe", "socket"):
        with pytest.raises(OSError, match="it isn't a regular file"):
            open_regular(tmp_path / name, flags)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path, flags)


def test_a_link_is_followed_when_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "b")
    os.close(open_regular(tmp_path / "b", follow_links=True))


def test_what_is_made_is_private(tmp_path: Path) -> None:
    os.close(open_regular(tmp_path / "a", os.O_RDWR | os.O_CREAT))
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_what_nobody_wrote_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than 64 MiB"):
        read_regular(tmp_path / "a")
