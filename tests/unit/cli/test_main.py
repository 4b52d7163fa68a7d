from __future__ import annotations

import os
import subprocess
import sys

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
