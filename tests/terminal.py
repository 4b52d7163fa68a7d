"""A real terminal of a test's own: what is typed goes to a program, what is shown can be looked at."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.waiting import until


class Terminal:
    """One program in a terminal of 80 by 24; a context that ends both."""

    def __init__(self, words: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
        self._ours, theirs = os.openpty()
        self.resize(80, 24)
        self.before = self.settings
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=folder
        )
        os.close(theirs)
        self._shown = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.hang_up()

    @property
    def settings(self) -> list[Any]:
        """What `stty` shows."""
        return termios.tcgetattr(self._ours)

    @property
    def shown(self) -> str:
        """All that was shown so far."""
        while self._ours >= 0 and select.select([self._ours], [], [], 0)[0]:
            try:
                piece = os.read(self._ours, 1 << 16)
            except OSError:  # nobody has it open any more
                break
            self._shown += piece
        return self._shown.decode(errors="replace")

    def type(self, text: str) -> None:
        """Types it."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Returns once this was shown."""

        def look() -> str:
            ended = self.process.poll() is not None
            shown = self.shown
            assert not ended or text in shown, shown
            return shown

        until(look, f"{text!r} is shown", lambda shown: text in shown)

    def resize(self, columns: int, rows: int) -> None:
        """As somebody who draws at the window's corner."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """The window is closed."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def finish(self) -> int:
        """The program's exit code once it has ended."""
        until(lambda: (self.shown, self.process.poll())[1] is not None, f"an end; shown: {self.shown}")
        return self.process.wait()
