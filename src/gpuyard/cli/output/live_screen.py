"""A screen that is drawn again in place, for as long as a command shows something live."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


class LiveScreen:
    """The terminal's other screen, given back at the end: also when the command is put aside by Ctrl-Z, or
    ended by a signal. Use as a context manager, in the main thread, where a loop runs.

    Attributes:
        is_left: set when its user presses q.
    """

    def __init__(self) -> None:
        self.is_left = asyncio.Event()
        self._before: dict[signal.Signals, Any] = {}
        #: What the keyboard's terminal was; None where keys come from elsewhere.
        self._keyboard: list[Any] | None = None
        self._is_given_back = False

    def __enter__(self) -> LiveScreen:
        self._before = {
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._put_aside),
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._end),
            signal.SIGHUP: signal.signal(signal.SIGHUP, self._end),
        }
        self._enter()
        if self._keyboard is not None:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read_key)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._keyboard is not None:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._give_back()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, as of now."""
        try:
            found = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return 80, 24
        return found.columns or 80, found.lines or 24

    def draw(self, lines: Sequence[str], bold: Sequence[int] = ()) -> None:
        """Shows these lines, as far as they fit, in the place of what is there.

        Args:
            lines: plain text, see `terminal_text.plain`.
            bold: numbers of lines that stand out.
        """
        columns, rows = self.size
        shown = [
            f"{_BOLD}{line[:columns]}{_PLAIN}" if number in bold else line[:columns]
            for number, line in enumerate(lines[:rows])
        ]
        # The last line has no newline after it: the terminal would move everything up by one.
        self._write(_HOME + f"{_END_OF_LINE}\r\n".join(shown) + _END_OF_LINE + _BELOW)

    def _enter(self) -> None:
        if sys.stdin.isatty():
            # What is typed neither shows nor waits for a newline; Ctrl-C stays what it is.
            self._keyboard = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        self._write(_ENTER)

    def _leave(self) -> None:
        self._write(_LEAVE)
        if self._keyboard is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._keyboard)

    def _read_key(self) -> None:
        keys = os.read(sys.stdin.fileno(), 64)
        if not keys or b"q" in keys or b"Q" in keys:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.is_left.set()

    def _write(self, text: str) -> None:
        # As bytes: of the text streams no control character comes out.
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="replace"))
        sys.stdout.buffer.flush()

    def _put_aside(self, number: int, frame: FrameType | None) -> None:
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        # Here again, in the foreground.
        self._enter()

    def _give_back(self) -> None:
        if not self._is_given_back:
            self._is_given_back = True
            self._leave()

    def _end(self, number: int, frame: FrameType | None) -> None:
        # Here already: a loop that is stopped so in the middle of its work doesn't always unwind what waits.
        self._give_back()
        # Unlike KeyboardInterrupt it isn't caught on the way.
        sys.exit(128 + number)
