from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.interactive.tar_writer import TarWriter


def test_tar_unpacks_what_is_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / ("d" * 120)).mkdir(parents=True)
    (source / ("d" * 120) / "ä").write_bytes(b"x" * 300_000)
    (source / "empty").touch(0o700)
    (source / "link").symlink_to("empty")
    os.mkfifo(source / "fifo")
    writer = TarWriter(source)
    data = b"".join(writer.pieces())
    assert (writer.size, writer.done_bytes, len(writer.left_out)) == (300_000, 300_000, 1)
    (tmp_path / "made").mkdir()
    subprocess.run(["tar", "-xpf", "-", "-C", tmp_path / "made"], input=data, check=True)
    (source / "fifo").unlink()
    subprocess.run(["diff", "-r", "--no-dereference", source, tmp_path / "made/it"], check=True)
    assert (tmp_path / "made/it/empty").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "made/end").read_bytes() == b""


def test_a_link_that_is_named_itself_is_followed(tmp_path: Path) -> None:
    (tmp_path / "step-1.pt").write_bytes(b"weights")
    (tmp_path / "last.pt").symlink_to("step-1.pt")
    assert b"weights" in b"".join(TarWriter(tmp_path / "last.pt").pieces())


def test_a_file_that_becomes_shorter_meanwhile_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"x" * 1000)
    writer = TarWriter(file)
    file.write_bytes(b"x")
    with pytest.raises(errors.GpuyardError, match="became shorter"):
        list(writer.pieces())
