"""Where a reader of a container's log stands, so that a log which comes in several streams comes whole.

A yard's logs carry no times: it says at which byte of which start's log a stream begins. A cluster says
nothing of the kind, and its nodes rotate logs, so that counting bytes would skip lines that were never
printed; there each line is asked for with its time, and a stream that broke off is taken up again a little
before its end. Times are to the nanosecond, and what comes twice is told by the order of times, not by their
value: two lines of the same time are two lines.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

#: Headers of a yard: which byte of the log a stream begins with, and of which start of the container.
LOG_OFFSET = "gpuyard-log-offset"
LOG_START = "gpuyard-log-start"

#: As the kubelet writes it: RFC 3339 with nine digits, in the node's own time zone.
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_LONGEST_TIME = 40
#: The kubelet's answer, and no error, for a container that has been removed.
_NO_LOG = b"unable to retrieve container logs for "
#: `2026-01-31T12:00:00` of a time.
_SECOND = 19


@dataclass(frozen=True)
class LogQuery:
    """What to ask for; source: `v1.PodLogOptions`."""

    tail_lines: int | None = None
    timestamps: bool = False
    since_time: str = ""


class LogPlace(Protocol):
    """How far a log has been printed.

    Attributes:
        lost: says that something is missing before what `fresh` gave last; who has told the user empties it.
        ends_early: whether a followed stream may end, as if it were whole, before its container has.
    """

    lost: str
    ends_early: bool

    def query(self) -> LogQuery:
        """What to ask the next stream for."""
        ...

    def begin(self, headers: Mapping[str, str]) -> None:
        """A stream begins, with these headers."""
        ...

    def fresh(self, piece: bytes) -> bytes:
        """What of the stream's next piece hasn't been printed yet."""
        ...


def log_place(headers: Mapping[str, str], *, tail_lines: int | None, restarts: bool) -> LogPlace:
    """A place at the beginning of a log, or of its last lines.

    Args:
        headers: of an earlier answer of the same server, which say whether it is a yard.
        tail_lines: begin with so many last lines; None for all.
        restarts: whether the container may be started again, with a log of its own each time.
    """
    if "gpuyard-version" in headers:
        return OffsetPlace(tail_lines)
    return TimedPlace(tail_lines, restarts=restarts)


class OffsetPlace:
    """By the yard's headers. Each stream brings the whole log, of which the front may be gone."""

    ends_early = False

    def __init__(self, tail_lines: int | None = None) -> None:
        self.lost = ""
        self._tail_lines = tail_lines
        self._start = -1
        #: Where the first stream of this start began, and how many bytes from there on have been printed.
        self._first = self._done = 0
        self._skip = 0

    def query(self) -> LogQuery:
        """See `LogPlace`."""
        return LogQuery(self._tail_lines if self._start < 0 else None)

    def begin(self, headers: Mapping[str, str]) -> None:
        """See `LogPlace`."""
        offset, start = int(headers.get(LOG_OFFSET, 0)), int(headers.get(LOG_START, 0))
        if start < self._start:  # a start before the one that was printed
            self._skip = sys.maxsize
            return
        if start > self._start:
            self._start, self._first, self._done = start, offset, 0
        missing = offset - self._first - self._done
        if missing > 0:
            self.lost = f"({missing} bytes are missing here: the log's front was dropped meanwhile)"
            self._first += missing
        self._skip = max(0, -missing)

    def fresh(self, piece: bytes) -> bytes:
        """See `LogPlace`."""
        new, self._skip = piece[self._skip :], max(0, self._skip - len(piece))
        self._done += len(new)
        return new


class TimedPlace:
    """By the times of lines, of which those of the last two seconds with output are kept.

    A node gives only the newest of the files that it rotates: lines that it took away while no stream was
    open are lost, which shows in that the last line printed doesn't come again.
    """

    ends_early = True

    def __init__(self, tail_lines: int | None = None, *, restarts: bool = False) -> None:
        self.lost = ""
        self._tail_lines = tail_lines
        self._restarts = restarts
        #: Times of lines that were begun, in the order of the log: of the last second, and of the one before.
        self._newest: list[bytes] = []
        self._older: list[bytes] = []
        #: Bytes printed of the last line, and whether it isn't whole yet.
        self._printed = 0
        self._is_open = False
        # Of the present stream: lines that are to come again; the beginning of a time; the present line.
        self._due: deque[bytes] = deque()
        self._held = b""
        self._in_line = False
        self._show = False
        self._skip = 0

    def query(self) -> LogQuery:
        """See `LogPlace`."""
        seen = self._older + self._newest
        if not seen:
            return LogQuery(self._tail_lines, timestamps=True)
        # The kubelet gets whole seconds only. Standard output and error are timed apart, and overtake.
        text = min(seen).decode()
        second = datetime.fromisoformat(text[:_SECOND] + (text[-6:] if text[-1] != "Z" else "+00:00"))
        return LogQuery(timestamps=True, since_time=f"{second.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")

    def begin(self, headers: Mapping[str, str]) -> None:
        """See `LogPlace`."""
        self._due = deque(self._older + self._newest)
        self._held, self._in_line = b"", False

    def fresh(self, piece: bytes) -> bytes:
        """See `LogPlace`."""
        data, self._held = self._held + piece, b""
        new: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._in_line:
                end = data.find(b"\n", at) + 1
                self._in_line = not end
                end = end or size
                if self._show:
                    new.append(self._unprinted(data[at:end]))
                at = end
                continue
            space = data.find(b" ", at, at + _LONGEST_TIME)
            if space < 0 and size - at < _LONGEST_TIME and b"\n" not in data[at:]:
                self._held = data[at:]
                break
            time = data[at:space] if space > 0 else b""
            self._in_line = True
            if _TIME.fullmatch(time):
                self._begin_line(time)
                at = space + 1
            elif data.startswith(_NO_LOG, at):
                self.lost = "(the node no longer has this output)"
                self._show = False
            else:
                # Another server's words; or, where lines come again, the rest of one that began before.
                self._show, self._skip = not self._due, 0
                if self._show:
                    self._is_open = False
        return b"".join(new)

    def _begin_line(self, time: bytes) -> None:
        self._skip = 0
        if self._due:
            self._show = False
            if time in self._due:
                while self._due.popleft() != time:
                    pass
                if not self._due and self._is_open:
                    self._show, self._skip = True, self._printed
                return
            if time < self._due[-1]:  # not asked for, as before the last lines
                return
            self._due.clear()
            if not self._restarts:
                self.lost = (
                    "(lines may be missing here: the node rotated the log while the connection was cut)"
                )
        self._show, self._is_open, self._printed = True, True, 0
        if self._newest and time[:_SECOND] > self._newest[0][:_SECOND]:
            self._older, self._newest = self._newest, []
        self._newest.append(time)

    def _unprinted(self, text: bytes) -> bytes:
        if text.endswith(b"\n"):
            self._is_open = False
        new, self._skip = text[self._skip :], max(0, self._skip - len(text))
        self._printed += len(new)
        return new
