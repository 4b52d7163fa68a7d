"""Runs that end when nobody uses them, with the launcher beside their command."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpuyard import launcher, launcher_idle
from gpuyard.launcher import EXIT_UNUSED
from gpuyard.launcher_idle import Idleness


def used(measured_s: float, busy_s: float, *, gpus: int = 1, held_s: float = 0) -> str:
    use = {"gpus": gpus, "gpu_s": held_s or measured_s, "measured_gpu_s": measured_s, "busy_gpu_s": busy_s}
    return json.dumps({"session": use})


class Said(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def test_old_pythons_can_read_it() -> None:
    text = Path(launcher_idle.__file__).read_text()
    assert "from __future__" not in text
    ast.parse(text, feature_version=(3, 6))


def test_idle_for_so_long_is_over_after_a_warning() -> None:
    said = Said()
    idle = Idleness(1800, said)
    assert not idle.is_over(used(600, 300))
    assert not idle.is_over(used(1600, 300)) and not said
    assert not idle.is_over(used(2100, 302))
    assert said == ["no GPU of this run has been used for 25 min: it ends in 5 min, unless one is"]
    assert idle.is_over(used(2400, 302)) and len(said) == 1


def test_use_begins_the_time_anew() -> None:
    said = Said()
    idle = Idleness(100, said)
    assert not idle.is_over(used(60, 0)) and len(said) == 1
    assert not idle.is_over(used(90, 20))
    assert not idle.is_over(used(189, 20)) and len(said) == 2
    assert idle.is_over(used(190, 20))


def test_each_of_several_gpus_has_to_be_idle() -> None:
    idle = Idleness(100, Said())
    assert not idle.is_over(used(799, 0, gpus=8))
    assert idle.is_over(used(800, 0, gpus=8))


def test_time_in_which_nobody_measures_ends_nothing() -> None:
    said = Said()
    idle = Idleness(100, said)
    for held_s in (50, 100, 150, 5000):
        assert not idle.is_over(used(0, 0, held_s=held_s))
    assert len(said) == 1 and "nobody measures" in said[0]


@pytest.mark.parametrize("text", ["", "{", "7", "[]", '{"s": 7}', '{"s": {"gpus": "x"}}', "{}", '{"s": {}}'])
def test_what_is_no_use_ends_nothing(text: str) -> None:
    assert not Idleness(1, Said()).is_over(text)


@pytest.fixture
def info(tmp_path: Path) -> Path:
    folder = tmp_path / "info"
    folder.mkdir()
    return folder


def start(info: Path, *command: str, stdin: int | None = None, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, launcher.__file__, "--", *command],
        env={"PATH": os.environ["PATH"], "GPUYARD_POD_INFO": str(info), **env},
        stdin=stdin,
        stdout=stdin if stdin is not None else subprocess.PIPE,
        stderr=stdin if stdin is not None else subprocess.PIPE,
        start_new_session=True,
    )


def test_an_idle_run_is_stopped_as_by_a_user(info: Path) -> None:
    saves = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *_: sys.exit(print('saved')))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)"
    )
    with start(info, sys.executable, "-c", saves, GPUYARD_IDLE_S="1") as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        (info / "gpu-use").write_text(used(5, 0))
        output, said = process.communicate()
    assert process.returncode == EXIT_UNUSED
    assert output == b"saved\n"
    assert b"this run ends, since its GPUs have been idle for 1 s" in said


@pytest.mark.parametrize("said", ["1", ""])
def test_a_terminal_that_is_gone_ends_it(info: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Also one of which nobody has ever said that it is there."""
    monkeypatch.setattr(launcher_idle, "_TERMINAL_GONE_S", 0.05)
    monkeypatch.setattr(launcher_idle, "_LOOK_S", 0.02)
    monkeypatch.setenv("GPUYARD_POD_INFO", str(info))
    monkeypatch.setenv("GPUYARD_TERMINAL", "1")
    (info / "terminal").write_text(said)
    unused, ended = launcher_idle.Unused(Said()), threading.Event()
    unused.watch(ended.set)
    assert ended.wait(30) and unused.reason == "its terminal is gone"
