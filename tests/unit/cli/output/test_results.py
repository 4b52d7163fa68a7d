"""How results look: on a pipe as in a file, on a terminal (a real one) as wide as it is."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from gpuyard.cli.output.results import (
    age,
    duration,
    fit_table,
    megabytes,
    print_fields,
    print_json,
    print_table,
    print_wrapped,
    wrap,
)

HEADER = ("NAME", "MESSAGE", "STATE")
LONG = "a sentence that is rather long for a terminal"
TABLE = f"""
from gpuyard.cli.output.results import print_table
print_table({HEADER!r}, [("one", {LONG!r}, "running"), ("a-longer-name", "short", "")], flexible=1)
"""
LINE = """
from gpuyard.cli.output.results import StatusLine
line = StatusLine()
for text in ("waiting", "waiting", "0123456789012345678901234567890", ""):
    line.show(text)
line.show("running")
line.clear()
line.clear()
"""


def on_terminal(script: str, columns: int) -> str:
    """What a script writes to a terminal of this width."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(its, "wb", buffering=0) as terminal:
            subprocess.run(
                [sys.executable, "-c", script],
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                env={**os.environ, "COLUMNS": str(columns)},
                check=True,
            )
        said = b""
        # Linux ends a terminal that nobody writes to any more with EIO.
        with contextlib.suppress(OSError):
            while piece := screen.read(4096):
                said += piece
    return said.decode().replace("\r\n", "\n")


def on_pipe(script: str) -> tuple[str, str]:
    """Its standard output and error."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


def test_a_table_on_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "LONGER"), [("x" * 300, "1"), ("y", "")], flexible=0)
    assert capsys.readouterr().out.splitlines() == [
        "A" + " " * 302 + "LONGER",
        "x" * 300 + "   1",
        "y",
    ]


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "STATE"), [])
    assert capsys.readouterr().out == "NAME   STATE\n"


def test_a_table_on_a_narrow_terminal_has_its_flexible_column_cut() -> None:
    lines = on_terminal(TABLE, 50).splitlines()
    assert lines == [
        "NAME            MESSAGE                    STATE",
        "one             a sentence that is rath…   running",
        "a-longer-name   short",
    ]
    assert max(map(len, lines)) == 50


def test_it_is_never_cut_to_nothing() -> None:
    lines = on_terminal(TABLE, 20).splitlines()
    assert lines[1:] == ["one          a sentenc…   running", "a-longer-…   short"]


PS = [
    ["NAME", "STATE", "EXIT", "GPUS", "AGE", "TOOK", "REASON"],
    ["train-resnet-x7k2q", "running", "", "2 (simulated)", "12m", "11m30s", "Running"],
    ["a", "pending", "", "", "1s", "", "WaitingForScheduler"],
]


def width(table: list[list[str]]) -> int:
    return sum(max(map(len, column)) for column in zip(*table, strict=True)) + 3 * (len(table[0]) - 1)


@pytest.mark.parametrize("columns", [200, 100, 80, 70, 60, 50])
def test_a_table_fits_and_never_cuts_what_is_simulated(columns: int) -> None:
    table = fit_table(PS, columns, flexible=-1, drop=("TOOK", "AGE", "EXIT"))
    assert width(table) <= columns
    assert table[0][0] == "NAME"
    assert "2 (simulated)" in table[1]


def test_a_table_loses_nothing_where_there_is_room() -> None:
    assert fit_table(PS, 200, flexible=-1, drop=("TOOK",)) == PS
    # First the flexible column gives way, then whole columns go.
    assert fit_table(PS, width(PS) - 1, flexible=-1, drop=("TOOK",))[0] == PS[0]
    assert fit_table(PS, width(PS) - 1, flexible=-1, drop=("TOOK",))[2][-1] == "WaitingForSchedul…"
    assert "TOOK" not in fit_table(PS, width(PS) - 10, flexible=-1, drop=("TOOK",))[0]


@pytest.mark.parametrize("columns", [120, 80, 60])
def test_long_names_in_several_columns_are_cut_to_what_fits(columns: int) -> None:
    table = [["NAMESPACE", *PS[0]], ["n" * 63, "a" * 63, *PS[1][1:]], ["default", *PS[2]]]
    fitted = fit_table(table, columns, flexible=-1, drop=("TOOK", "AGE", "EXIT"))
    assert width(fitted) <= columns
    assert all(row[0] and row[1] for row in fitted)


def test_a_wide_terminal_shows_all_of_it() -> None:
    assert LONG in on_terminal(TABLE, 200)


def test_fields_are_aligned_and_empty_ones_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("Name", "one\ntwo"), ("Exit code", ""), ("Started at", "now")])
    assert capsys.readouterr().out == "Name:        one\n             two\nStarted at:  now\n"


def test_json_is_one_document(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    value = {"name": "ünïcode", "gpus": [1, None], "at": datetime(2026, 1, 31, tzinfo=UTC)}
    print_json(value)
    out = capfdbinary.readouterr().out
    assert out.endswith(b"}\n") and "ünïcode".encode() in out and b'\n  "gpus"' in out
    assert orjson.loads(out) == value | {"at": "2026-01-31T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(seconds=-5), "0s"),
        (timedelta(seconds=0.9), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(seconds=120), "2m"),
        (timedelta(minutes=3, seconds=10), "3m10s"),
        (timedelta(minutes=10, seconds=10), "10m"),
        (timedelta(minutes=179), "179m"),
        (timedelta(hours=3), "3h"),
        (timedelta(hours=7, minutes=5), "7h5m"),
        (timedelta(hours=8, minutes=5), "8h"),
        (timedelta(hours=47, minutes=59), "47h"),
        (timedelta(days=2), "2d"),
        (timedelta(days=400, hours=3), "400d"),
    ],
)
def test_durations(span: timedelta, said: str) -> None:
    assert duration(span) == said


def test_age() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert age(None, now) == ""
    assert age(now - timedelta(seconds=45), now) == "45s"


def test_the_status_line_on_a_pipe_is_a_line_for_each_new_text() -> None:
    assert on_pipe(LINE) == ("", "waiting\n0123456789012345678901234567890\nrunning\n")


def test_the_status_line_on_a_terminal_is_rewritten_in_place() -> None:
    clear = "\r\x1b[K"
    assert on_terminal(LINE, 20).split(clear) == [
        *("", "waiting", "012345678901234567…", "", "running"),
        "",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (2, "2 B"),
        (1_001, "2 kB"),
        (5_613, "6 kB"),
        (99_001, "100 kB"),
        (100_000, "0.1 MB"),
        (183_006, "0.2 MB"),
    ],
)
def test_what_is_there_is_never_nothing(size: int, text: str) -> None:
    assert megabytes(size) == text


def test_json_of_a_name_that_is_no_text(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_json({"folder": "/a\udcff"})
    assert json.loads(capfdbinary.readouterr().out) == {"folder": "/a\udcff"}


def test_lines_are_broken_between_words_and_not_within_commands() -> None:
    text = "node vm: 0 GPUs, needs 2 (`gpuyard up --simulate H100:8` simulates): kubectl get pods -A; then"
    lines = wrap(text, 30, "→ ", "    ")
    assert " ".join(line.removeprefix("→ ").strip() for line in lines) == text
    assert "    (`gpuyard up --simulate H100:8`" in lines and "    kubectl get pods -A; then" in lines
    assert all(len(line) <= 30 for line in lines if "`" not in line)
    assert wrap("short", 30, "→ ", "    ") == ["→ short"]
    # What fits stays as it is: a file's name may have two spaces.
    assert wrap("no 'a  b.py'", 30, "→ ") == ["→ no 'a  b.py'"]
    assert wrap("", 30, "→ ") == ["→ "]
    assert wrap("one `unpaired", 5) == ["one", "`unpaired"]


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_wrapped("a " * 100 + "end\n  b", first="- ")
    assert capsys.readouterr().out == "- " + "a " * 100 + "end\n-   b\n"
