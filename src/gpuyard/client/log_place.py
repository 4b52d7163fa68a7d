"""Where a reader of a container's log stands, so that a log which comes in several streams comes whole.

A yard says of each piece at which byte of which start's log it stands, so that what it no longer keeps
shows as a gap, and of which time it is, where that is asked for. A cluster says nothing of the kind, and
its nodes rotate logs, so that counting bytes would skip lines that were never printed; there each line is
asked for with its time, and a stream that broke off is taken up again a little before its end. Times are to
the nanosecond, and what comes twice is told by the order of times, not by their value: two lines of the
same time are two lines.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from gpuyard.kube.timestamps import format_micro_time, format_time

#: Headers of a yard: which byte of the log a stream begins with, and of which start of the container.
LOG_OFFSET = "gpuyard-log-offset"
LOG_START = "gpuyard-log-start"
#: Media type of a yard's log in frames: offset (8 bytes), microseconds since 1970 (8) and length (4),
#: big-endian, then so many bytes.
LOG_FRAMES = "application/vnd.gpuyard.timed-log-frames"
_FRAME = struct.Struct(">QQI")
_US_PER_S = 1_000_000

#: As the kubelet writes it: RFC 3339 with nine digits, in the node's own time zone.
_TIME = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)"
_LONGEST_TIME = 40
#: The kubelet's answer, and no error, for a container that has been removed.
_NO_LOG = b"unable to retrieve container logs for "
#: `2026-01-31T12:00:00` of a time.
_SECOND = 19


@dataclass(frozen=True)
class LogOptions:
    """Which part of a log a reader wants, and how.

    Attributes:
        tail_lines: begin with so many last lines; None for all that there is.
        since_s: only lines of the last so many seconds, as the node's clock has it; None for all.
        timestamps: each line with its time before it.
    """

    tail_lines: int | None = None
    since_s: int | None = None
    timestamps: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the log is left out."""
        return self.tail_lines is None and self.since_s is None


@dataclass(frozen=True)
class LogQuery:
    """What to ask for; source: `v1.PodLogOptions`."""

    tail_lines: int | None = None
    timestamps: bool = False
    since_time: str = ""
    since_s: int | None = None
    accept: str = "*/*"


@dataclass(frozen=True)
class Gap:
    """Output that is missing at this place of the log; the text says how much and why, as far as known."""

    text: str


def frame(offset: int, text: bytes, time_us: int = 0) -> bytes:
    """A piece of a log as LOG_FRAMES has it.

    Args:
        offset: from the beginning of the start's log.
        text: what stands there.
        time_us: when it was written; 0 where nobody asked.
    """
    return _FRAME.pack(offset, time_us, len(text)) + text


def dated(text: bytes, time_us: int, *, is_open: bool) -> bytes:
    """The text with the time before each line that begins in it, as a kubelet writes it.

    Args:
        text: some of a log.
        time_us: when it was written.
        is_open: whether its first line began before.
    """
    if not text:
        return text
    second, us = divmod(time_us, _US_PER_S)
    moment = datetime.fromtimestamp(second, UTC).replace(microsecond=us)
    prefix = f"{format_micro_time(moment)[:-1]}000Z ".encode()
    begun = text[:-1].replace(b"\n", b"\n" + prefix) + text[-1:]
    return begun if is_open else prefix + begun


def line_time_ns(line: bytes) -> tuple[int, int] | None:
    """The time before a line, in nanoseconds since 1970, and how many bytes it takes; None where none is."""
    match = re.match(_TIME + rb" ", line[:_LONGEST_TIME])
    if match is None:
        return None
    second, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(second.decode() + ("+00:00" if zone == b"Z" else zone.decode()))
    except ValueError:  # a program's own words, such as a thirteenth month
        return None
    ns = int((fraction or b"").ljust(9, b"0")[:9])
    return int(moment.timestamp()) * 1_000_000_000 + ns, match.end()


_WHOLE = LogOptions()


class LogPlace(Protocol):
    """How far a log has been printed.

    Attributes:
        ends_early: whether a followed stream may end, as if it were whole, before its container has.
    """

    ends_early: bool

    def query(self) -> LogQuery:
        """What to ask the next stream for."""
        ...

    def begin(self, headers: Mapping[str, str]) -> None:
        """A stream begins, with these headers."""
        ...

    def fresh(self, piece: bytes) -> list[bytes | Gap]:
        """What of the stream's next piece hasn't been printed yet, with gaps in their places."""
        ...


def log_place(headers: Mapping[str, str], options: LogOptions, *, restarts: bool) -> LogPlace:
    """A place at the beginning of a log, or of the part that is wanted.

    Args:
        headers: of an earlier answer of the same server, which say whether it is a yard.
        options: which part.
        restarts: whether the container may be started again, with a log of its own each time.
    """
    if "gpuyard-version" in headers:
        return OffsetPlace(options)
    return TimedPlace(options, restarts=restarts)


class OffsetPlace:
    """By the yard's offsets. Each stream brings the whole log, of which some may no longer be kept."""

    ends_early = False

    def __init__(self, options: LogOptions = _WHOLE) -> None:
        self._options = options
        self._start = -1
        #: The first byte of this start's log that hasn't been printed.
        self._due = 0
        self._is_open = False  # whether the last line printed isn't whole
        # Of the present stream: whether it is in frames; whether it is of an earlier start; where its next
        # piece stands; the beginning of a frame.
        self._in_frames = self._is_over = False
        self._offset = 0
        self._held = b""

    def query(self) -> LogQuery:
        """See `LogPlace`."""
        wanted = self._options if self._start < 0 else _WHOLE
        return LogQuery(
            wanted.tail_lines, self._options.timestamps, since_s=wanted.since_s, accept=LOG_FRAMES
        )

    def begin(self, headers: Mapping[str, str]) -> None:
        """See `LogPlace`."""
        start = int(headers.get(LOG_START, 0))
        self._offset, self._held = int(headers.get(LOG_OFFSET, 0)), b""
        self._in_frames = headers.get("content-type", "") == LOG_FRAMES
        self._is_over = start < self._start
        if start > self._start:
            # What lies before the part that is wanted isn't missing.
            self._due = self._offset if self._start < 0 and not self._options.is_whole else 0
            self._start = start

    def fresh(self, piece: bytes) -> list[bytes | Gap]:
        """See `LogPlace`."""
        if self._is_over:
            return []
        if not self._in_frames:
            offset, self._offset = self._offset, self._offset + len(piece)
            return self._new(offset, piece, 0)
        found: list[bytes | Gap] = []
        data, at = self._held + piece, 0
        while len(data) - at >= _FRAME.size:
            offset, time_us, size = _FRAME.unpack_from(data, at)
            begin, end = at + _FRAME.size, at + _FRAME.size + size
            if end > len(data):
                break
            found += self._new(offset, data[begin:end], time_us)
            at = end
        self._held = data[at:]
        return found

    def _new(self, offset: int, text: bytes, time_us: int) -> list[bytes | Gap]:
        found: list[bytes | Gap] = []
        if (missing := offset - self._due) > 0:
            if self._is_open:
                found.append(b"\n")
            found.append(Gap(f"({missing} bytes are missing here: the yard keeps the newest output only)"))
            self._due, self._is_open = offset, False
        if new := text[self._due - offset :]:
            dates = self._options.timestamps and self._in_frames
            found.append(dated(new, time_us, is_open=self._is_open) if dates else new)
            self._due += len(new)
            self._is_open = not new.endswith(b"\n")
        return found


class TimedPlace:
    """By the times of lines, of which those of the last two seconds with output are kept.

    A node gives only the newest of the files that it rotates: lines that it took away while no stream was
    open are lost, which shows in that the last line printed doesn't come again.
    """

    ends_early = True

    def __init__(self, options: LogOptions = _WHOLE, *, restarts: bool = False) -> None:
        self._options = options
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
        self._show = self._is_new_line = False
        self._skip = 0

    def query(self) -> LogQuery:
        """See `LogPlace`."""
        seen = self._older + self._newest
        if not seen:
            return LogQuery(self._options.tail_lines, timestamps=True, since_s=self._options.since_s)
        # The kubelet gets whole seconds only. Standard output and error are timed apart, and overtake.
        text = min(seen).decode()
        second = datetime.fromisoformat(text[:_SECOND] + (text[-6:] if text[-1] != "Z" else "+00:00"))
        return LogQuery(timestamps=True, since_time=format_time(second))

    def begin(self, headers: Mapping[str, str]) -> None:
        """See `LogPlace`."""
        self._due = deque(self._older + self._newest)
        self._held, self._in_line = b"", False

    def fresh(self, piece: bytes) -> list[bytes | Gap]:
        """See `LogPlace`."""
        data, self._held = self._held + piece, b""
        found: list[bytes | Gap] = []
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
            if re.fullmatch(_TIME, time):
                if gap := self._begin_line(time):
                    found += [b"".join(new), gap]
                    new = []
                if self._is_new_line and self._options.timestamps:
                    new.append(time + b" ")
                at = space + 1
            elif data.startswith(_NO_LOG, at):
                found.append(Gap("(the node no longer has this output)"))
                self._show = False
            else:
                # Another server's words; or, where lines come again, the rest of one that began before.
                self._show, self._skip = not self._due, 0
                if self._show:
                    self._is_open = False
        return [one for one in (*found, b"".join(new)) if one]

    def _begin_line(self, time: bytes) -> Gap | None:
        """What is missing before this line."""
        self._skip, gap, self._is_new_line = 0, None, False
        if self._due:
            self._show = False
            if time in self._due:
                while self._due.popleft() != time:
                    pass
                if not self._due and self._is_open:
                    self._show, self._skip = True, self._printed
                return None
            if time < self._due[-1]:  # not asked for, as before the last lines
                return None
            self._due.clear()
            if not self._restarts:
                gap = Gap(
                    "(lines may be missing here: the node rotated the log while the connection was cut)"
                )
        self._show, self._is_open, self._printed, self._is_new_line = True, True, 0, True
        if self._newest and time[:_SECOND] > self._newest[0][:_SECOND]:
            self._older, self._newest = self._newest, []
        self._newest.append(time)
        return gap

    def _unprinted(self, text: bytes) -> bytes:
        if text.endswith(b"\n"):
            self._is_open = False
        new, self._skip = text[self._skip :], max(0, self._skip - len(text))
        self._printed += len(new)
        return new
