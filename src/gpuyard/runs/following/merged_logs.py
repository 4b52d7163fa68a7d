"""Logs of several pods in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.client.log_place import Gap, line_time_ns
from gpuyard.runs.following.pod_log import LogEvent, Output

#: A line longer than this comes in several pieces, and so many bytes of one log are put together.
_MAX_PIECE = 64 << 10


@dataclass(frozen=True)
class DatedLog:
    """A log whose lines have their times before them.

    Attributes:
        events: the log from its beginning; nothing is asked for before it is its turn.
        began_ns: when its pod began, in nanoseconds since 1970: no line is older.
    """

    events: AsyncGenerator[LogEvent, None]
    began_ns: int


async def in_order(
    logs: Sequence[DatedLog], *, keep_times: bool
) -> AsyncGenerator[tuple[int, LogEvent | None], None]:
    """What each log has, with its place in the sequence; None at its end.

    Each log stays in its own order, also where its times aren't. One that can't be read to its end leaves a
    gap, and the others are read.

    Args:
        logs: as many are open at a time as their containers ran.
        keep_times: leave the times before the lines.

    Raises:
        GpuyardError: the first that couldn't be read, once all others have been.
    """
    failed: errors.GpuyardError | None = None
    due = [(log.began_ns, place) for place, log in enumerate(logs)]
    heapq.heapify(due)
    readers: dict[int, AsyncGenerator[tuple[int, LogEvent], None]] = {}
    waiting: dict[int, LogEvent] = {}
    async with AsyncExitStack() as stack:
        while due:
            _, place = heapq.heappop(due)
            if place not in readers:
                readers[place] = _dated(logs[place].events, logs[place].began_ns, keep_times=keep_times)
                await stack.enter_async_context(aclosing(readers[place]))
            said: list[LogEvent] = [waiting.pop(place)] if place in waiting else []
            size, is_over = sum(map(_size, said)), True
            gap: Gap | None = None
            try:
                async for time_ns, event in readers[place]:
                    size += _size(event)
                    if said and size < _MAX_PIECE and (not due or (time_ns, place) < due[0]):
                        said.append(event)
                        continue
                    waiting[place], is_over = event, False
                    heapq.heappush(due, (time_ns, place))
                    break
            except errors.GpuyardError as error:
                failed, gap = failed or error, Gap(f"(no more output of it can be had: {error})")
            if said:
                yield place, _joined(said)
            if gap is not None:
                yield place, gap
            if is_over:
                yield place, None
    if failed is not None:
        raise failed


def _size(event: LogEvent) -> int:
    """Of output; what isn't stands alone."""
    return len(event.data) if isinstance(event, Output) else _MAX_PIECE


def _joined(events: Sequence[LogEvent]) -> LogEvent:
    """All of them as one: several are output."""
    if len(events) == 1:
        return events[0]
    return Output(b"".join(event.data for event in events if isinstance(event, Output)))


async def _dated(
    events: AsyncGenerator[LogEvent, None], began_ns: int, *, keep_times: bool
) -> AsyncGenerator[tuple[int, LogEvent], None]:
    """Pieces of whole lines, each of one time; where the times of a log go back, the later one stands."""
    lines = _Lines(began_ns, keep_times=keep_times)
    async with aclosing(events):
        async for event in events:
            pieces = lines.fed(event.data) if isinstance(event, Output) else lines.rest()
            for piece in pieces:
                yield piece
            if not isinstance(event, Output):
                yield lines.time_ns, event
    for piece in lines.rest():
        yield piece


class _Lines:
    """Puts a log's lines together, and takes their times off.

    Attributes:
        time_ns: of the last line.
    """

    def __init__(self, began_ns: int, *, keep_times: bool) -> None:
        self.time_ns = began_ns
        self._keep_times = keep_times
        self._held, self._in_line = b"", False
        #: The last time as it was written: many lines have the same.
        self._prefix = b""

    def fed(self, data: bytes) -> Iterator[tuple[int, Output]]:
        """What is whole with this; a line that is too long to wait for comes in parts."""
        *whole, self._held = (self._held + data).split(b"\n")
        lines = [line + b"\n" for line in whole]
        if len(self._held) > _MAX_PIECE:
            lines.append(self._held)
            self._held = b""
        return self._pieces(lines)

    def rest(self) -> Iterator[tuple[int, Output]]:
        """What no newline follows; behind it a line begins."""
        held, self._held = self._held, b""
        yield from self._pieces([held] if held else [])
        self._in_line = False

    def _pieces(self, lines: Iterable[bytes]) -> Iterator[tuple[int, Output]]:
        piece = b""
        for line in lines:
            time_ns, text = self._split(line)
            if piece and (time_ns > self.time_ns or len(piece) > _MAX_PIECE):
                yield self.time_ns, Output(piece)
                piece = b""
            self.time_ns = max(self.time_ns, time_ns)
            piece += text
        if piece:
            yield self.time_ns, Output(piece)

    def _split(self, line: bytes) -> tuple[int, bytes]:
        """The line's time, and what is shown of it."""
        begins, self._in_line = not self._in_line, not line.endswith(b"\n")
        if not begins:
            return self.time_ns, line
        time_ns = self.time_ns
        if not (self._prefix and line.startswith(self._prefix)):
            found = line_time_ns(line)
            if found is None:
                return time_ns, line
            time_ns, size = found
            self._prefix = line[:size]
        return time_ns, line if self._keep_times else line[len(self._prefix) :]
