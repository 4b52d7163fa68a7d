from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.client.log_place import (
    LOG_FRAMES,
    LOG_OFFSET,
    LOG_START,
    Gap,
    LogOptions,
    LogQuery,
    OffsetPlace,
    TimedPlace,
    frame,
    line_time_ns,
    log_place,
)

BEGIN = datetime(2026, 1, 31, 23, 59, 58, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """A line of the kubelet's log file; a partial one has no newline at its end."""

    at_ns: int
    text: bytes

    def time(self, zone: timezone) -> str:
        seconds, ns = divmod(self.at_ns, 10**9)
        moment = (BEGIN + timedelta(seconds=seconds)).astimezone(zone)
        offset = "Z" if zone is UTC else moment.isoformat()[-6:]
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns:09}{offset}"


def serve(
    records: Sequence[Record], query: LogQuery, *, zone: timezone = UTC, tail_of: Sequence[Record] = ()
) -> bytes:
    """What a kubelet sends of a file (cri-client's pkg/logs/logs.go)."""
    assert query.timestamps
    if query.tail_lines is not None:
        assert not query.since_time
        records = records[max(len(records) - query.tail_lines, 0) :]
    since = datetime.fromisoformat(query.since_time) if query.since_time else BEGIN - timedelta(days=1)
    sent, is_new_line = b"", True
    for record in records:
        if BEGIN + timedelta(seconds=record.at_ns // 10**9) >= since:
            sent += (record.time(zone).encode() + b" " if is_new_line else b"") + record.text
        is_new_line = not record.text or record.text.endswith(b"\n")
    return sent


def in_pieces(text: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


def read(place: TimedPlace, stream: bytes, size: int = 7, *, gap: str = "") -> bytes:
    """What is new in the stream, which has the one gap that is named, or none."""
    place.begin({})
    found = [one for piece in in_pieces(stream, size) for one in place.fresh(piece)]
    missing = [one.text for one in found if isinstance(one, Gap)]
    assert len(missing) == bool(gap) and all(gap in text for text in missing)
    return b"".join(one for one in found if isinstance(one, bytes))


#: Few contents and few times, so that lines come that are alike in both.
contents = st.sampled_from([b"\n", b"a\n", b"2026-01-31T12:00:00Z b\n", b"\xff\x00\n", b"par", b"t"])
gaps = st.sampled_from([0, 0, 1, 300_000_000, 1_200_000_000, -1])


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    at, records = 0, []
    for text, gap in draw(st.lists(st.tuples(contents, gaps), max_size=12)):
        at = max(at + gap, 0)
        records.append(Record(at, text))
    return records


@given(
    log=logs(),
    cuts=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 300), st.integers(1, 40)), max_size=5),
    zone=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
def test_nothing_is_lost_or_doubled_wherever_streams_are_cut(
    log: list[Record], cuts: list[tuple[int, int, int]], zone: timezone
) -> None:
    place, printed = TimedPlace(), b""
    written = 0
    for more, cut, size in cuts:
        written = min(written + more, len(log))
        stream = serve(log[:written], place.query(), zone=zone)
        printed += read(place, stream[:cut], size)
    printed += read(place, serve(log, place.query(), zone=zone))
    assert printed == b"".join(record.text for record in log)


def test_an_empty_line_that_was_cut_comes_after_the_rest_of_one_that_is_known() -> None:
    texts = ((0, b"be"), (1.2, b"gun\n"), (1.2, b"next\n"), (2.4, b"\n"))
    log = [Record(round(at * 10**9), text) for at, text in texts]
    place = TimedPlace()
    assert read(place, serve(log, place.query())[:-1]) == b"begun\nnext\n"
    assert read(place, serve(log, place.query())) == b"\n"


def lines(*seconds: float) -> list[Record]:
    return [Record(round(at * 10**9), b"%d\n" % number) for number, at in enumerate(seconds)]


def text(records: Sequence[Record]) -> bytes:
    return b"".join(record.text for record in records)


def test_lines_before_the_last_ones_do_not_come_in_after_a_cut() -> None:
    log = lines(0.1, 0.2, 0.3, 0.4)
    place = TimedPlace(LogOptions(2))
    assert read(place, serve(log[:3], place.query())) == b"1\n2\n"
    assert read(place, serve(log, place.query())) == b"3\n"


def test_last_lines_that_were_cut_before_the_first_are_asked_for_again() -> None:
    place = TimedPlace(LogOptions(1))
    assert read(place, b"2026-01-31T1") == b""
    assert place.query() == LogQuery(1, timestamps=True)
    assert read(place, serve(lines(0.1, 0.2), place.query())) == b"1\n"


def test_a_log_that_was_rotated_meanwhile_begins_with_what_was_printed() -> None:
    log = lines(0.1, 0.2, 0.3, 0.4)
    place = TimedPlace()
    assert read(place, serve(log[:3], place.query())) == b"0\n1\n2\n"
    assert read(place, serve(log[2:], place.query())) == b"3\n"


@pytest.mark.parametrize("restarts", [False, True])
def test_lines_that_were_rotated_away_are_said_to_be_missing(restarts: bool) -> None:
    log = lines(0.1, 0.2, 0.3, 0.4)
    place = TimedPlace(restarts=restarts)
    assert read(place, serve(log[:2], place.query())) == b"0\n1\n"
    # The log of the next start of a container has none of this one's lines either.
    gap = "" if restarts else "(lines may be missing here"
    assert read(place, serve(log[3:], place.query()), gap=gap) == b"3\n"


def test_the_rest_of_a_line_that_began_before_is_not_a_line() -> None:
    long = [Record(900_000_000, b"long "), Record(2_100_000_000, b"line\n"), Record(2_200_000_000, b"next\n")]
    place = TimedPlace()
    assert read(place, serve(long, place.query())) == b"long line\nnext\n"
    for _ in range(2):
        assert read(place, serve(long, place.query())) == b""
    far = [*long, Record(7_000_000_000, b"last\n"), Record(9_000_000_000, b"end\n")]
    assert read(place, serve(far[:-1], place.query())) == b"last\n"
    assert read(place, serve(far, place.query())) == b"end\n"


@pytest.mark.parametrize("cut", range(120))
def test_lines_come_with_their_times_wherever_the_stream_is_cut(cut: int) -> None:
    log = lines(0.1, 0.2, 1.3)
    place = TimedPlace(LogOptions(since_s=60, timestamps=True))
    assert place.query() == LogQuery(timestamps=True, since_s=60)
    printed = read(place, serve(log, place.query())[:cut]) + read(place, serve(log, place.query()))
    assert printed == serve(log, LogQuery(timestamps=True))


def test_what_has_no_time_is_printed_as_it_is() -> None:
    said = b"a server that knows no times says this\n"
    assert read(TimedPlace(), said, 1) == said


def test_a_container_that_was_removed() -> None:
    place = TimedPlace()
    words = b"unable to retrieve container logs for containerd://0123"
    assert read(place, words, 99, gap="no longer") == b""


def test_only_the_last_two_seconds_are_kept() -> None:
    log = lines(*(number / 10 for number in range(100)))
    place = TimedPlace()
    read(place, serve(log, place.query()))
    assert place.query().since_time == "2026-02-01T00:00:06Z"


def headers(offset: int, start: int = 0) -> dict[str, str]:
    return {LOG_OFFSET: str(offset), LOG_START: str(start), "gpuyard-version": "1"}


def missing(count: int) -> Gap:
    return Gap(f"({count} bytes are missing here: the yard keeps the newest output only)")


def test_a_yard_says_where_streams_begin() -> None:
    place = log_place(headers(0), LogOptions(), restarts=True)
    assert isinstance(place, OffsetPlace)
    place.begin(headers(0))
    assert place.fresh(b"one\ntw") == [b"one\ntw"]
    place.begin(headers(0))
    assert [place.fresh(b"one"), place.fresh(b"\ntwo\n")] == [[], [b"o\n"]]
    # The next start has a log of its own; that of the one before is known.
    place.begin(headers(0, 1))
    assert place.fresh(b"three\n") == [b"three\n"]
    place.begin(headers(0, 0))
    assert place.fresh(b"one\ntwo\n") == []
    place.begin(headers(0, 1))
    assert place.fresh(b"three\nfour\n") == [b"four\n"]


def test_a_yard_s_last_lines_are_asked_for_once() -> None:
    place = OffsetPlace(LogOptions(tail_lines=1))
    assert place.query().tail_lines == 1
    place.begin(headers(4))
    assert place.fresh(b"two\n") == [b"two\n"]
    assert place.query().tail_lines is None
    place.begin(headers(0))
    assert place.fresh(b"one\ntwo\nthree\n") == [b"three\n"]


def test_a_yard_s_log_whose_front_was_dropped() -> None:
    place = OffsetPlace()
    place.begin(headers(0))
    place.fresh(b"one\n")
    place.begin(headers(8))
    assert place.fresh(b"three\n") == [missing(4), b"three\n"]


def test_a_yard_s_log_whose_front_was_dropped_before_anybody_read() -> None:
    place = OffsetPlace()
    place.begin(headers(8))
    assert place.fresh(b"three\n") == [missing(8), b"three\n"]


def test_a_line_that_a_gap_cuts_does_not_become_part_of_another() -> None:
    place = OffsetPlace()
    place.begin(headers(0) | {"content-type": LOG_FRAMES})
    assert place.fresh(frame(0, b"one\ntw") + frame(20, b"nine\n")) == [
        b"one\ntw", b"\n", missing(14), b"nine\n",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [1, 5, 100])
def test_gaps_of_a_yard_s_log_are_where_they_are(size: int) -> None:
    framed = headers(3) | {"content-type": LOG_FRAMES}
    stream = frame(3, b"one\n") + frame(7, b"two\n") + frame(100, b"three\n") + frame(106, b"four\n")
    place = OffsetPlace()
    assert place.query().accept == LOG_FRAMES
    place.begin(framed)
    found = [one for piece in in_pieces(stream, size) for one in place.fresh(piece)]
    assert found == [missing(3), b"one\n", b"two\n", missing(89), b"three\n", b"four\n"]
    # Cut within a frame, and begun again when more of it was dropped.
    place = OffsetPlace()
    place.begin(framed)
    assert place.fresh(stream[:25]) == [missing(3), b"one\n"]
    place.begin(headers(100) | {"content-type": LOG_FRAMES})
    assert place.fresh(frame(100, b"three\n")) == [missing(93), b"three\n"]


def test_a_yard_s_pieces_are_dated_line_by_line() -> None:
    place = OffsetPlace(LogOptions(timestamps=True))
    assert place.query().timestamps
    place.begin(headers(0) | {"content-type": LOG_FRAMES})
    stream = frame(0, b"one\ntw", 1_000_000) + frame(6, b"o\nthree\n", 2_500_000)
    one, two = b"1970-01-01T00:00:01.000000000Z ", b"1970-01-01T00:00:02.500000000Z "
    assert place.fresh(stream) == [one + b"one\n" + one + b"tw", b"o\n" + two + b"three\n"]
    # Cut in a line, and begun again: its time isn't said twice. Behind a gap a line begins.
    assert place.fresh(frame(14, b"fo", 3_000_000)) == [b"1970-01-01T00:00:03.000000000Z fo"]
    place.begin(headers(0) | {"content-type": LOG_FRAMES})
    assert place.fresh(frame(11, b"ee\nfour\n", 3_000_000)) == [b"ur\n"]
    assert place.fresh(frame(20, b"six\n", 2_500_000)) == [missing(1), two + b"six\n"]


def test_an_older_yard_s_lines_have_no_times() -> None:
    place = OffsetPlace(LogOptions(timestamps=True))
    place.begin(headers(0))
    assert place.fresh(b"one\ntwo\n") == [b"one\ntwo\n"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"1970-01-01T00:00:01.5Z a", (1_500_000_000, 23)),
        (b"1970-01-01T01:00:01.000000002+01:00 a", (1_000_000_002, 36)),
        (b"1970-01-01T00:00:01Z", None),
        (b"1970-01-01T00:00:01Za", None),
        (b" 1970-01-01T00:00:01Z a", None),
        (b"1970-13-01T00:00:01Z a", None),
        (b"1970-01-01T00:00:01+99:99 a", None),
        (b"", None),
    ],
)
def test_the_time_before_a_line(line: bytes, found: tuple[int, int] | None) -> None:
    assert line_time_ns(line) == found


def test_any_other_server_is_a_cluster() -> None:
    assert isinstance(log_place({}, LogOptions(3), restarts=False), TimedPlace)


def test_an_offset_place_asks_once_for_what_is_new_and_misses_nothing_before_it() -> None:
    place = OffsetPlace(LogOptions(since_s=60))
    assert place.query() == LogQuery(since_s=60, accept=LOG_FRAMES)
    place.begin({LOG_OFFSET: "100"})
    assert place.fresh(b"new") == [b"new"]
    assert place.query() == LogQuery(accept=LOG_FRAMES)
