import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuyard.cli.commands import mig_apply
from gpuyard.local.paths import find_paths
from tests.fake_driver import install_with_nvml


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A driver whose GPU 1 is split, and nobody is on it."""
    monkeypatch.setenv("GPUYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NVML_STUB_MIG", str(tmp_path / "mig"))
    monkeypatch.setenv("NVML_STUB_PROCESSES", str(tmp_path / "processes"))
    (tmp_path / "mig").write_text("on 1\ngi 1 9 4 2 3\n")
    (tmp_path / "processes").write_text("")
    yield install_with_nvml(tmp_path / "root")
    shutil.rmtree(find_paths(os.environ).runtime_dir, ignore_errors=True)


@pytest.mark.parametrize(
    ("file", "text"),
    [("processes", "0 compute 4711 1024 -1\n"), ("mig", "on 0\ngi 0 9 4 2 3\non 1\ngi 1 9 4 2 3\n")],
)
def test_what_has_changed_while_it_asked_is_seen(
    driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    monkeypatch.setattr(mig_apply, "_ask", lambda: (tmp_path / file).write_text(text))
    arguments = ["0: all 1g.10gb; 1: whole", "--driver-root", str(driver)]
    done = CliRunner().invoke(mig_apply.command, arguments)
    assert done.exception is not None
    assert "changed meanwhile" in str(done.exception)
    assert "gi 1" in (tmp_path / "mig").read_text() or file == "mig"


def test_what_has_not_changed_is_done(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mig_apply, "_ask", lambda: None)
    done = CliRunner().invoke(mig_apply.command, ["1: whole", "--driver-root", str(driver)])
    assert done.exception is None
    assert "destroyed 3g.40gb at 4" in done.stdout
    assert "gi 1" not in (tmp_path / "mig").read_text()
