from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.submitting.spec_file import read_spec_file


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"run: [true]\n",))
    writer.start()
    assert read_spec_file(tmp_path / "pipe") == b"run: [true]\n"
    writer.join(60)


def test_what_is_not_there_is_named_with_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"can't read .*missing: No such file") as caught:
        read_spec_file(tmp_path / "missing", "a file of K=V")
    assert caught.value.remedy == "name a file of K=V that is there"


def test_what_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(errors.UsageError, match="/dev/zero has more than 4 MiB"):
        read_spec_file(Path("/dev/zero"))
