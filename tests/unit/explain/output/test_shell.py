"""On what dash and bash really print: both are run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.diagnosis import diagnose

needs_dash = pytest.mark.skipif(shutil.which("dash") is None, reason="there is no dash")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def found_in(*argv: str) -> list[Cause]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return [found.key for found in diagnose(done.stderr.splitlines())]


@needs_dash
@pytest.mark.parametrize(
    "line",
    [
        "set -o pipefail",
        "set -euo pipefail",
        "source env.sh",
        "[[ a == b ]] && echo same",
        "echo ${x//a/b}",
        "a=(1 2)",
        "cat <(echo)",
        "shopt -s globstar",
    ],
)
def test_what_dash_says_of_bash(line: str) -> None:
    assert found_in("dash", "-c", line) == [Cause.NOT_BASH]


@needs_dash
def test_a_script_for_sh_that_is_written_for_bash(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nset -euo pipefail\n")
    assert found_in("dash", str(script)) == [Cause.NOT_BASH]


@needs_dash
@pytest.mark.parametrize("line", ["no-such-program", "exit 3", "cat /no/such/file"])
def test_what_dash_says_otherwise_isnt_about_bash(line: str) -> None:
    assert found_in("dash", "-c", line) == []


@needs_dash
def test_a_file_in_tmp_that_dash_misses() -> None:
    assert found_in("dash", "-c", "echo < /tmp/gpuyard-no-such") == [Cause.OWN_TMP]


@needs_dash
def test_a_killed_child_of_dash() -> None:
    assert found_in("dash", "-c", "dash -c 'kill -9 $$'; true") == [Cause.CHILD_KILLED]


@needs_bash
@pytest.mark.parametrize(("signal", "cause"), [("KILL", Cause.CHILD_KILLED), ("BUS", Cause.BUS_ERROR)])
def test_a_killed_child_of_bash(signal: str, cause: Cause) -> None:
    assert found_in("bash", "-c", f"bash -c 'kill -{signal} $$'; true") == [cause]
