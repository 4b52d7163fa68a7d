from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.local.kubelet.logs import log_times
from gpuyard.local.kubelet.logs.log_times import LogTimes

US = 1_000_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


def write(log: Path, text: bytes, second: int) -> None:
    """Some output at that time."""
    with log.open("ab") as file:
        file.write(text)
    os.utime(log, (second, second))


def looked(log: Path, *writes: tuple[bytes, int]) -> LogTimes:
    times = LogTimes(log.parent)
    for text, second in writes:
        write(log, text, second)
        times.look()
    return times


def stretches(times: LogTimes, size: int) -> list[tuple[int, int, float]]:
    """(begin, end, second) of what has one time; what no look saw is left out."""
    found, at = [], 0
    while at < size and (end := times.end(at)) > at:
        found.append((at, end, times.time_us(at) / US))
        at = end
    return found


def test_what_comes_between_two_looks_has_one_time(log: Path) -> None:
    times = looked(log, (b"one\n", 10), (b"two\nthree\n", 20))
    assert stretches(times, 14) == [(0, 4, 10), (4, 14, 20)]
    assert [times.first_since(second * US) for second in (0, 10, 11, 20, 21)] == [0, 0, 4, 4, 14]


def test_what_no_look_has_seen_has_no_time_yet(log: Path) -> None:
    times = looked(log)
    assert (times.end(0), times.first_since(5)) == (0, 0)
    write(log, b"one\n", 10)
    assert times.end(0) == 0
    times.look()
    assert times.end(0) == 4


def test_the_next_yard_knows_what_this_one_saw(log: Path) -> None:
    times = looked(log, (b"one\n", 10), (b"two\n", 20))
    assert stretches(LogTimes(log.parent), 8) == stretches(times, 8)
    # What was printed while no yard was up has the time of its last write.
    write(log, b"three\nfour\n", 30)
    after = looked(log)
    after.look()
    assert stretches(after, 19) == [(0, 4, 10), (4, 8, 20), (8, 19, 30)]


def test_a_log_that_nobody_looked_at_is_of_its_last_write(log: Path) -> None:
    """As those of runs that ended before the yard kept times."""
    write(log, b"one\ntwo\n", 10)
    times = looked(log)
    times.look()
    assert stretches(times, 8) == [(0, 8, 10)]


def test_a_clock_that_is_put_back_does_not_put_lines_back(log: Path) -> None:
    times = looked(log, (b"one\n", 20), (b"two\n", 10), (b"three\n", 30))
    assert stretches(times, 14) == [(0, 4, 20), (4, 8, 20), (8, 14, 30)]
    assert stretches(LogTimes(log.parent), 14) == stretches(times, 14)


def test_nothing_is_noted_where_nothing_was_printed(log: Path) -> None:
    times = looked(log, (b"one\n", 10), (b"", 20), (b"", 30))
    assert stretches(times, 4) == [(0, 4, 10)]
    assert (log.with_name("log-times")).stat().st_size == 16


def test_a_crash_in_the_middle_of_a_look_shifts_no_other(log: Path) -> None:
    looked(log, (b"one\n", 10), (b"two\n", 20))
    file = log.with_name("log-times")
    whole = file.read_bytes()
    for kept in range(len(whole) + 1):
        file.write_bytes(whole[:kept])
        times = looked(log)
        times.look()
        assert stretches(times, 8) == ([(0, 4, 10), (4, 8, 20)] if kept >= 16 else [(0, 8, 20)])
        assert stretches(LogTimes(log.parent), 8) == stretches(times, 8)


def test_a_file_that_is_longer_than_its_log_dates_what_there_is(log: Path) -> None:
    """After a power cut the end of the log may be gone, and that of the times be there."""
    looked(log, (b"one\n", 10), (b"two\n", 20))
    os.truncate(log, 6)
    times = looked(log)
    times.look()
    assert [times.time_us(at) / US for at in range(6)] == [10, 10, 10, 10, 20, 20]
    write(log, b"o\nthree\n", 30)
    times.look()
    assert times.end(8) == 14 and times.time_us(8) == 30 * US


@pytest.mark.parametrize("text", [b"\0" * 64, b"\xff" * 40, b"odd", b"\0" * 7 + b"\x09" + b"\xff" * 8])
def test_a_file_of_something_else_breaks_no_reader(log: Path, text: bytes) -> None:
    log.with_name("log-times").write_bytes(text)
    times = looked(log, (b"one\n", 10))
    assert times.end(0) > 0
    assert times.time_us(0) > 0


def test_a_link_in_its_place_is_not_followed(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"keep")
    log.with_name("log-times").symlink_to(other)
    times = looked(log, (b"one\n", 10))
    assert times.time_us(0) == 10 * US
    assert other.read_bytes() == b"keep"


def test_a_full_disk_costs_no_look(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = looked(log, (b"one\n", 10))

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        write(log, b"two\n", 20)
        times.look()
    write(log, b"three\n", 30)
    times.look()
    assert stretches(times, 14) == [(0, 4, 10), (4, 8, 20), (8, 14, 30)]
    # The next yard has of the one that is missing the time of the one behind it.
    assert stretches(LogTimes(log.parent), 14) == [(0, 4, 10), (4, 14, 30)]


def test_a_log_that_is_removed_ends_nobody(log: Path) -> None:
    times = looked(log, (b"one\n", 10))
    log.unlink()
    times.look()
    assert times.time_us(0) == 10 * US


@given(steps=st.lists(st.tuples(st.integers(1, 9), st.integers(-5, 5)), max_size=60))
def test_however_long_it_goes_on_it_stays_short_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    """Of the older half it knows less exactly; nothing is dated before it was written."""
    log = tmp_path_factory.mktemp("start") / "log"
    log.touch()
    second, written = 100, []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_times, "MAX_LOOKS", 8)
        times = LogTimes(log.parent)
        for count, step in steps:
            second += step
            write(log, b"x" * count, second)
            written += [second] * count
            times.look()
        for known in (times, LogTimes(log.parent)):
            found = stretches(known, len(written))
            assert len(found) <= 8
            assert [begin for begin, _, _ in found] + [len(written)] == [0] + [end for _, end, _ in found]
            dates = [date for _, _, date in found]
            assert dates == sorted(dates)
            assert all(known.time_us(at) / US >= second for at, second in enumerate(written))
        assert log.with_name("log-times").stat().st_size <= 9 * 16 if written else True
