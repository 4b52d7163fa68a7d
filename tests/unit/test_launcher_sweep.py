"""The values of one task, put into its command and its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gpuyard import launcher, launcher_sweep
from gpuyard.workloads.sweeps.values import Sweep, ValueTable

SWEEP = Sweep(
    (
        ValueTable(("lr", "name"), (("1e-3", 'a,"b"'), ("1e-4", "c\nd"))),
        ValueTable(("seed",), (("1",), ("2",), ("3",))),
    )
)


def test_every_task_has_the_row_that_the_run_counts() -> None:
    tables = json.loads(SWEEP.as_json)
    rows = [launcher_sweep.row(tables, index) for index in range(SWEEP.size)]
    assert rows == [SWEEP.task(index) for index in range(SWEEP.size)]
    assert len({tuple(row.values()) for row in rows}) == 6
    assert rows[0] == {"lr": "1e-3", "name": 'a,"b"', "seed": "1"}
    with pytest.raises(ValueError, match="fewer tasks"):
        launcher_sweep.row(tables, 6)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("{lr}", "0.1"), ("--lr={lr}:{lr}", "--lr=0.1:0.1"), ("{{lr}}", "{lr}"), ("{other}", "{other}"),
     ('{"a": {"b": 1}}', '{"a": {"b": 1}}'), ("{}", "{}"), ("{ lr }", "{ lr }"), ("${lr}", "$0.1")],
)  # fmt: skip
def test_a_name_in_braces_is_replaced(word: str, expected: str) -> None:
    assert launcher_sweep.filled(word, {"lr": "0.1"}) == expected


def start(index: str) -> subprocess.CompletedProcess[str]:
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    return subprocess.run(
        [sys.executable, launcher.__file__, sys.executable, "-c", code, "--lr={lr}", "{name}"],
        env={**os.environ, "GPUYARD_SWEEP": SWEEP.as_json, "JOB_COMPLETION_INDEX": index},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_launcher_starts_the_task() -> None:
    words, environment = json.loads(start("3").stdout)
    assert words == ["--lr=1e-4", "c\nd"]
    assert (environment["lr"], environment["name"], environment["seed"]) == ("1e-4", "c\nd", "1")
    assert "GPUYARD_SWEEP" not in environment


def test_a_task_that_isn_t_there_is_told() -> None:
    ended = start("6")
    assert ended.returncode == launcher_sweep.EXIT_USAGE
    assert ended.stderr.startswith("gpuyard: GPUYARD_SWEEP and JOB_COMPLETION_INDEX aren't as gpuyard sets")
