"""The daemon's own log, `daemon.log`: bounded, whoever makes the daemon write and however often."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_LOG_BYTES = 8 << 20
#: What is kept of a log that grew longer.
_KEPT_BYTES = MAX_LOG_BYTES // 2
_DROPPED = b"... older lines were dropped here\n"
#: The same line is written once in this time, and then with how often it came.
_REPEAT_S = 60.0
#: Different lines that are remembered.
_MAX_REMEMBERED = 256


def log_to_standard_error() -> None:
    """Sends the log of this process to its standard error: the file that the starting command opened."""
    handler = BoundedHandler(sys.stderr.fileno())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(RepeatFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class BoundedHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error and keeps the newest part of the file behind it.

    The file is cut in place: child processes write to the same one, in append mode as we do.

    Args:
        descriptor: of the file, open for reading, too.
        max_bytes: when it is cut.
        kept_bytes: what is left of it then.
    """

    def __init__(
        self, descriptor: int, *, max_bytes: int = MAX_LOG_BYTES, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        super().__init__(open(descriptor, "w", closefd=False))  # noqa: SIM115 - lives as long as the process
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._kept_bytes = kept_bytes
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._cut()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line, then looks at the size."""
        super().emit(record)
        self._cut()

    def _cut(self) -> None:
        # A full disk, or a file that can't be read: what can be dropped is dropped.
        with contextlib.suppress(OSError):
            size = os.fstat(self._descriptor).st_size if self._is_file else 0
            if size <= self._max_bytes:
                return
            kept = b""
            with contextlib.suppress(OSError):
                kept = os.pread(self._descriptor, self._kept_bytes, size - self._kept_bytes)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, _DROPPED + kept[kept.find(b"\n") + 1 :])


@dataclass(slots=True)
class _Repeated:
    at: float
    more: int = 0


class RepeatFilter(logging.Filter):
    """Lets the same line through once a minute; the next time it says how often it came meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], _Repeated] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        line, now = (record.name, record.levelno, record.getMessage()), self._clock()
        seen = self._seen.get(line)
        if seen is not None and now - seen.at < _REPEAT_S:
            seen.more += 1
            return False
        if seen is not None and seen.more:
            record.msg, record.args = f"{line[2]} (and {seen.more} times more before)", ()
        self._seen.pop(line, None)
        self._seen[line] = _Repeated(now)
        if len(self._seen) > _MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True
