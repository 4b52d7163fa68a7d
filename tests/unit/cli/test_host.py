from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.cli.host import host_context
from gpuyard.workloads.spec import RunSpec


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(errors.UsageError, match="the current folder was removed"):
        host_context(RunSpec(run=("true",)), Path(), {"PATH": "/usr/bin:/bin"})


@pytest.mark.parametrize(
    "spec", [RunSpec(run=("x" * 300 + ".py",)), RunSpec(run=("true",), workdir="x" * 300)]
)
def test_what_cannot_be_looked_at_is_named(spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"can't look at .*x{300}.*: File name too long"):
        host_context(spec, tmp_path, {"PATH": "/usr/bin:/bin"})
