from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.timestamps import format_micro_time, format_time, later, parse_time

MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))


def test_writes_utc() -> None:
    moment = datetime(2026, 1, 31, 13, 0, 5, 42, tzinfo=timezone(timedelta(hours=1)))
    assert format_time(moment) == "2026-01-31T12:00:05Z"
    assert format_micro_time(moment) == "2026-01-31T12:00:05.000042Z"


@given(MOMENTS)
def test_what_is_written_is_read_as_it_was(moment: datetime) -> None:
    assert parse_time(format_micro_time(moment)) == moment
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)


@given(MOMENTS, MOMENTS)
def test_text_sorts_as_time_does(one: datetime, other: datetime) -> None:
    assert (format_micro_time(one) < format_micro_time(other)) is (one < other)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5Z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-01-31T14:30:00+02:30", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_reads(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo is not None


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z", "20260131T120000Z",
     "2026-W05-6T12:00Z", "2026-01-31T12:00Z", "2026-13-01T12:00:00Z", "2026-02-30T12:00:00Z",
     "2026-01-31T12:00:00Z\n"],
)  # fmt: skip
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|month|day is out of range"):
        parse_time(text)


def test_a_period_of_64_bits_is_a_hundred_years() -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    assert later(now, 90) == now + timedelta(seconds=90)
    assert later(now, 2**63 - 1) == later(now, 10**12) == now + timedelta(days=36500)


def test_a_year_of_few_digits_is_read_back() -> None:
    moment = datetime(1, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert format_time(moment) == "0001-02-03T04:05:06Z"
    assert format_micro_time(moment) == "0001-02-03T04:05:06.000007Z"
    assert parse_time(format_micro_time(moment)) == moment
