"""Folders that nobody else may look into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard.private_folders import make_private_folder


def test_whatever_it_makes_is_private_and_what_was_there_stays_as_it_is(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)
    make_private_folder(there / "above" / "folder")
    modes = [path.stat().st_mode & 0o777 for path in (there, there / "above", there / "above" / "folder")]
    assert modes == [0o755, 0o700, 0o700]
    make_private_folder(there / "above" / "folder")
    (there / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_private_folder(there / "file" / "folder")
    assert os.listdir(there / "above") == ["folder"]
