from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from gpuyard.cli.output.terminal_text import PlainStream, plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text\twith a tab\n", "plain text\twith a tab\n"),
        ("größer → 模型 👩‍🔬 עברית", "größer → 模型 👩‍🔬 עברית"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("over\rwritten\x7f\x9b31m", "over\\x0dwritten\\x7f\\x9b31m"),
        ("\u202eturned\u2066\u2028", "\\u202eturned\\u2066\\u2028"),
    ],
)
def test_control_characters_are_written_out(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_bytes_go_through_as_they_are() -> None:
    raw = io.BytesIO()
    stream = PlainStream(raw, encoding="utf-8")
    stream.write("\x1b[1m")
    stream.flush()
    stream.buffer.write(b"\x1b[1m\xff")
    assert raw.getvalue() == b"\\x1b[1m\x1b[1m\xff"


def test_a_line_that_is_rewritten_still_is() -> None:
    program = """
from gpuyard.cli.output.results import StatusLine
from gpuyard.cli.output.terminal_text import make_streams_plain
make_streams_plain()
line = StatusLine()
line.show("waits for \\x1b[2J")
line.clear()
print("done")"""
    ours, theirs = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=theirs, check=True)
        assert os.read(ours, 1000) == b"\r\x1b[Kwaits for \\x1b[2J\r\x1b[Kdone\r\n"
    finally:
        os.close(ours)
        os.close(theirs)
