from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.client.log_place import Gap, dated
from gpuyard.runs.following.merged_logs import DatedLog, in_order
from gpuyard.runs.following.pod_log import LogEvent, Output

US = 1_000_000


async def _events(*events: LogEvent) -> AsyncGenerator[LogEvent, None]:
    for event in events:
        yield event


def merge(
    *logs: Sequence[LogEvent], began_ns: int = 0, keep_times: bool = False
) -> list[tuple[int, LogEvent]]:
    """What is printed; the end of each log is checked and left out."""

    async def read() -> list[tuple[int, LogEvent | None]]:
        dated_logs = [DatedLog(_events(*log), began_ns) for log in logs]
        return [one async for one in in_order(dated_logs, keep_times=keep_times)]

    found = asyncio.run(read())
    ends = [place for place, event in found if event is None]
    assert sorted(ends) == list(range(len(logs)))
    for place in ends:  # nothing comes of a log behind its end
        assert max(at for at, (of, _) in enumerate(found) if of == place) == found.index((place, None))
    return [(place, event) for place, event in found if event is not None]


def output(second: int, *lines: str) -> Output:
    return Output(dated("".join(f"{line}\n" for line in lines).encode(), second * US, is_open=False))


def texts(found: list[tuple[int, LogEvent]]) -> list[tuple[int, bytes]]:
    return [(place, event.data) for place, event in found if isinstance(event, Output)]


def test_lines_come_in_the_order_of_time() -> None:
    found = merge(
        [output(1, "a1"), output(4, "a4"), output(5, "a5")], [output(2, "b2", "b2 too"), output(6, "b6")]
    )
    assert texts(found) == [(0, b"a1\n"), (1, b"b2\nb2 too\n"), (0, b"a4\na5\n"), (1, b"b6\n")]


def test_a_log_that_cannot_be_read_leaves_the_others_whole() -> None:
    async def broken() -> AsyncGenerator[LogEvent, None]:
        yield output(2, "b2")
        raise errors.InternalError("the node is gone")

    found: list[tuple[int, LogEvent | None]] = []

    async def read() -> None:
        logs = [DatedLog(_events(output(1, "a1"), output(9, "a9")), 0), DatedLog(broken(), 0)]
        async for one in in_order(logs, keep_times=False):
            found.append(one)  # noqa: PERF401 - kept though it raises

    with pytest.raises(errors.InternalError, match="the node is gone"):
        asyncio.run(read())
    assert found == [
        (0, Output(b"a1\n")),
        (1, Output(b"b2\n")),
        (1, Gap("(no more output of it can be had: the node is gone)")),
        (1, None),
        (0, Output(b"a9\n")),
        (0, None),
    ]


def test_times_stay_where_they_are_asked_for() -> None:
    found = merge([output(1, "a")], [output(2, "b")], keep_times=True)
    assert [text for _, text in texts(found)] == [
        b"1970-01-01T00:00:01.000000000Z a\n",
        b"1970-01-01T00:00:02.000000000Z b\n",
    ]


def test_of_one_time_the_first_log_comes_first() -> None:
    assert texts(merge([output(1, "a")], [output(1, "b")])) == [(0, b"a\n"), (1, b"b\n")]


def test_a_clock_that_jumps_back_keeps_a_log_s_own_order() -> None:
    found = merge([output(5, "a5"), output(1, "then"), output(7, "a7")], [output(3, "b3"), output(6, "b6")])
    assert texts(found) == [(1, b"b3\n"), (0, b"a5\nthen\n"), (1, b"b6\n"), (0, b"a7\n")]


def test_what_no_newline_ends_is_there_and_in_its_place() -> None:
    half = Output(dated(b"\r 10%\r 20%", 2 * US, is_open=False))
    assert texts(merge([output(1, "a"), half], [output(3, "b")])) == [(0, b"a\n\r 10%\r 20%"), (1, b"b\n")]


def test_a_gap_stands_behind_what_was_printed_before_it() -> None:
    half = Output(dated(b"half", 1 * US, is_open=False))
    [first, gap, last] = merge([half, Gap("gone"), output(2, "on")])
    assert (first[1], gap[1], last[1]) == (Output(b"half"), Gap("gone"), Output(b"on\n"))


def test_a_line_longer_than_one_waits_for_comes_whole() -> None:
    text = b"x" * 200_000 + b"\n"
    found = merge([Output(dated(text, US, is_open=False)), output(3, "a")], [output(2, "b")])
    assert b"".join(data for place, data in texts(found) if place == 0) == text + b"a\n"
    assert texts(found)[-1] == (0, b"a\n")


def test_lines_without_times_stay_as_they_are() -> None:
    assert texts(merge([Output(b"no time\n2026 neither\n")])) == [(0, b"no time\n2026 neither\n")]


def test_a_log_is_not_asked_for_before_it_is_its_turn() -> None:
    """A sweep has thousands of tasks, and each open log is a connection."""
    opened: list[str] = []

    async def log(name: str, second: int) -> AsyncGenerator[LogEvent, None]:
        opened.append(name)
        yield output(second, name)

    async def read() -> None:
        logs = [DatedLog(log("a", 1), 1_000_000_000), DatedLog(log("b", 9), 9_000_000_000)]
        events = in_order(logs, keep_times=False)
        assert await anext(events) == (0, Output(b"a\n"))
        assert opened == ["a"]
        await events.aclose()

    asyncio.run(read())


def test_what_breaks_one_log_ends_all_and_closes_them() -> None:
    closed: list[str] = []

    async def log(name: str, error: Exception | None) -> AsyncGenerator[LogEvent, None]:
        try:
            yield output(1, name)
            if error:
                raise error
            yield output(2, name)
        finally:
            closed.append(name)

    async def read() -> None:
        logs = [DatedLog(log("a", None), 0), DatedLog(log("b", ConnectionError("cut")), 0)]
        with pytest.raises(ConnectionError):
            async for _ in in_order(logs, keep_times=False):
                pass

    asyncio.run(read())
    assert sorted(closed) == ["a", "b"]


#: The time that passes before a line, which may be none or negative, and the line.
_LINES = st.lists(st.tuples(st.integers(-2, 3), st.text("ab\r ", max_size=3)), max_size=8)


@given(logs=st.lists(_LINES, max_size=4), size=st.integers(1, 80), has_end=st.booleans())
def test_nothing_is_lost_or_doubled_or_out_of_its_log_s_order(
    logs: list[list[tuple[int, str]]], size: int, has_end: bool
) -> None:
    begin = 1000
    streams: list[list[LogEvent]] = []
    seconds: list[list[int]] = []
    for number, lines in enumerate(logs):
        seconds.append(list(accumulate((step for step, _ in lines), initial=begin))[1:])
        stream = b"".join(
            dated(f"{number} {second} {text}\n".encode(), second * US, is_open=False)
            for second, (_, text) in zip(seconds[-1], lines, strict=True)
        )
        stream = stream if has_end else stream[:-1]
        streams.append([Output(stream[at : at + size]) for at in range(0, len(stream), size)])
    found = texts(merge(*streams))
    for number, lines in enumerate(logs):
        due = "".join(
            f"{number} {second} {text}\n" for second, (_, text) in zip(seconds[number], lines, strict=True)
        )
        assert (
            b"".join(data for place, data in found if place == number)
            == (due if has_end else due[:-1]).encode()
        )
    # Of logs whose clocks never went back all lines are in the order of time.
    forward = {number for number, lines in enumerate(logs) if all(step >= 0 for step, _ in lines)}
    shown = [
        int(line.split()[1])
        for place, data in found
        if place in forward
        for line in data.split(b"\n")
        if line.strip()
    ]
    assert shown == sorted(shown)
