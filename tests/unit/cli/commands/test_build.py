from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuyard.cli.commands.build import command
from gpuyard.errors import BuildError
from tests.unit.images.conftest import Workshop, workshop

__all__ = ["workshop"]


def test_locked_says_that_there_is_no_lock_and_frozen_wants_one(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPUYARD_HOME", str(tmp_path / "home"))
    words = [str(workshop.app), "--base", workshop.base, "-t", workshop.target]

    def built(*flags: str) -> BaseException | None:
        return CliRunner().invoke(command, [*words, *flags]).exception

    assert "--locked lets nobody change it: there was none" in str(built("--locked"))
    assert "and there is none" in str(built("--frozen"))
    assert built() is None
    assert built("--locked") is None
    assert built("--frozen") is None
    (workshop.app / "gpuyard.lock").unlink()
    monkeypatch.setenv("GPUYARD_LOCKED", "1")
    assert isinstance(built(), BuildError)
