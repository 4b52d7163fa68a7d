"""Runs that say how they are to be ended, with the launcher beside their command."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuyard import launcher, launcher_grace
from tests.waiting import until

Start = Callable[..., subprocess.Popen[bytes]]

#: Handles a signal by what stands in the place of {0}, and lives on.
HANDLES = """
import os, pathlib, signal, sys, time
def handle(number, frame):
    {0}
signal.signal(signal.{1}, handle)
os.write(1, b"up\\n")
while True:
    time.sleep(1)
"""
SAVED = 'pathlib.Path(os.environ["GPUYARD_SAVED"])'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start(tmp_path: Path, log: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start_one(*command: str, **env: str) -> subprocess.Popen[bytes]:
        with log.open("wb") as output, (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, launcher.__file__, "--", *command],
                env={"PATH": os.environ["PATH"], **env},
                stdout=output,
                stderr=said,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start_one
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(log: Path, line: str) -> None:
    until(lambda: log.read_text().splitlines(), f"it prints {line!r}", lambda lines: line in lines)


def test_old_pythons_can_read_it() -> None:
    text = Path(launcher_grace.__file__).read_text()
    assert "from __future__" not in text
    for function in (
        n for n in ast.walk(ast.parse(text, feature_version=(3, 6))) if isinstance(n, ast.FunctionDef)
    ):
        for annotation in (function.returns, *(a.annotation for a in function.args.args)):
            assert annotation is None or isinstance(annotation, (ast.Name, ast.Constant))


def test_an_early_signal_comes_to_who_handles_it_alone(start: Start, log: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(HANDLES.format('os.write(1, b"saves\\n"); os._exit(0)', "SIGUSR1"))
    # The shell would die of it.
    line = f"{sys.executable} {tmp_path}/train.py; echo over"
    process = start("sh", "-c", line, GPUYARD_SIGNAL="SIGUSR1 0")
    assert process.wait(60) == 0
    assert log.read_text().splitlines() == ["up", "saves", "over"]


def test_an_early_sigterm_is_a_stop(start: Start) -> None:
    process = start("sh", "-c", "sleep 600; echo never", GPUYARD_SIGNAL="SIGTERM 0")
    assert process.wait(60) == 128 + signal.SIGTERM


def test_what_is_no_signal_is_said(start: Start, tmp_path: Path) -> None:
    assert start("true", GPUYARD_SIGNAL="soon").wait(60) == 0
    assert "GPUYARD_SIGNAL isn't as gpuyard sets it: soon" in (tmp_path / "said").read_text()


def test_the_age_is_that_of_the_pod_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launcher_grace._age_s() == 0
    monkeypatch.setattr(os, "getppid", lambda: 0)
    assert launcher_grace._age_s() > 0


def test_who_has_saved_is_ended_with_its_workers(start: Start, log: Path) -> None:
    """Long before the grace is over, and as stopped, not as killed."""
    saves = f"{SAVED}.touch(); print({SAVED}.parent, flush=True)"
    worker = "import subprocess; subprocess.Popen(['sh', '-c', \"trap '' TERM; sleep 600; true\"])\n"
    process = start(sys.executable, "-c", worker + HANDLES.format(saves, "SIGTERM"), GPUYARD_GRACE_S="600")
    _wait_for(log, "up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    folder = Path(log.read_text().splitlines()[1])
    assert folder.name.startswith("gpuyard-") and not folder.exists()


def test_what_was_saved_before_the_stop_does_not_count(start: Start, log: Path) -> None:
    then = f'print("there" if {SAVED}.exists() else "gone", flush=True); {SAVED}.touch()'
    before = f"import os, pathlib; {SAVED}.touch()\n"
    process = start(sys.executable, "-c", before + HANDLES.format(then, "SIGTERM"), GPUYARD_GRACE_S="600")
    _wait_for(log, "up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert log.read_text().splitlines() == ["up", "gone"]
