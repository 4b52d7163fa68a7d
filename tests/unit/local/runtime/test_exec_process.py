from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.runtime.exec_process import ContainerEntry, ExecProcess, marked_processes


@pytest.mark.parametrize("tty", [False, True])
async def test_what_cannot_be_watched_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tty: bool
) -> None:
    def refuse(*asked: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    entry = ContainerEntry(["sleep", "600"], dict(os.environ), tmp_path, str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(errors.InternalError, match="Too many open files"):
        ExecProcess.start(entry, stdin=True, stdout=True, stderr=not tty, tty=tty, note=tmp_path / "note")
    assert set(os.listdir("/proc/self/fd")) == before
    assert not marked_processes(entry.mark) and not list(tmp_path.iterdir())
