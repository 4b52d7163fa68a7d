"""Logs of several pods in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from gpuyard.client.log_place import line_time_ns
from gpuyard.runs.following.pod_log import LogEvent, Output

#: A line longer than this comes in several pieces, and so many bytes of one log are put together.
_MAX_PIECE = 64 << 10


@dataclass(frozen=True)
class DatedLog:
    """A log whose lines have their times before them.

    Attributes:
        events: the log from its beginning; nothing is asked for before it is its turn.
        began_ns: when its container was started, in nanoseconds since 1970: no line is older.
    """

    events: AsyncGenerator[LogEvent, None]
    began_ns: int


async def in_order(
    logs: Sequence[DatedLog], *, keep_times: bool
) -> AsyncGenerator[tuple[int, LogEvent | None], None]:
    """What each log has, with its place in the sequence; None at its end.

    Each log stays in its own order, also where its times aren't.

    Args:
        logs: as many are open at a time as their containers ran.
        keep_times: leave the times before the lines.
    """
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
            async for time_ns, event in readers[place]:
                size += _size(event)
                if said and size < _MAX_PIECE and (not due or (time_ns, place) < due[0]):
                    said.append(event)
                    continue
                waiting[place], is_over = event, False
                heapq.heappush(due, (time_ns, place))
                break
            if said:
                yield place, _joined(said)
            if is_over:
                yield place, None


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
    time_ns, held, in_line = began_ns, b"", False
    async with aclosing(events):
        async for event in events:
            if not isinstance(event, Output):
                yield time_ns, event
                continue
            *lines, held = (held + event.data).split(b"\n")
            lines = [line + b"\n" for line in lines]
            if len(held) > _MAX_PIECE:
                lines.append(held)
                held = b""
            piece = b""
            for line in lines:
                text, line_ns = line, time_ns
                if not in_line and (found := line_time_ns(line)):
                    line_ns, size = found
                    text = line if keep_times else line[size:]
                if piece and (line_ns > time_ns or len(piece) > _MAX_PIECE):
                    yield time_ns, Output(piece)
                    piece = b""
                time_ns, in_line = max(time_ns, line_ns), not line.endswith(b"\n")
                piece += text
            if piece:
                yield time_ns, Output(piece)
    if held:
        found = None if in_line else line_time_ns(held)
        text = held if found is None or keep_times else held[found[1] :]
        yield max(time_ns, found[0] if found else 0), Output(text)
