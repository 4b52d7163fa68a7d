from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "words", [(b"logs", b"n\xff"), (b"run", b"--dry-run", b"-o", b"json", b"--", b"a\xff")]
)
def test_an_argument_that_is_no_text_is_named(words: tuple[bytes, ...]) -> None:
    program = [os.fsencode(sys.executable), b"-m", b"gpuyard"]
    done = subprocess.run([*program, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "isn't text in UTF-8" in done.stderr
    assert "\\xff" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_obeys_no_text_of_others() -> None:
    program = [sys.executable, "-m", "gpuyard"]
    done = subprocess.run([*program, "run", "a\x1b[2J\r\u202e.py"], capture_output=True, text=True)
    # Sequences for colours click takes out where there is no terminal.
    assert "a\\x0d\\u202e.py" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize("words", [(), ("ps",), ("volume", "ls")])
def test_help_of_a_command_is_its_help(words: tuple[str, ...]) -> None:
    program = [sys.executable, "-m", "gpuyard"]
    asked = [[*program, "help", *words], [*program, *words, "--help"]]
    said, helped = (subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in asked)
    assert said == helped
    assert " ".join(["Usage: python -m gpuyard", *words, "[OPTIONS]"]) in said


def test_a_current_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = 'mkdir "$1"; cd "$1"; rmdir "$1"; exec "$2" -m gpuyard build --base "oci:$3:x" -t "oci:$3:y"'
    done = subprocess.run(
        ["sh", "-c", command, "sh", str(gone), sys.executable, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "Error: No such file or directory",
        "  the current folder is gone: go to another one",
    ]


@pytest.mark.parametrize("words", [("build", "--list", "."), ("doctor",)])
def test_a_user_without_a_home_is_said_so(words: tuple[str, ...], tmp_path: Path) -> None:
    nobody = "import pwd; pwd.getpwuid = {}.__getitem__; from gpuyard.cli.main import main; main()"
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", nobody, *words], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        f"Error: there is no home folder: HOME isn't set, and nobody knows user {os.getuid()}",
        "  set HOME to a folder that you may write",
    ]
