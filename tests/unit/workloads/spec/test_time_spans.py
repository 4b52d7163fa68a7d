from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.workloads.spec.time_spans import format_span, parse_span


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90), ("1h30m", 5400), (" 2d ", 172_800), ("0s", 0), ("0", 0)]
)
def test_spans(written: str, seconds: int) -> None:
    assert parse_span(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["", "h", "1.5h", "-1s", "1m1h", "1 h", "5x", "١s"])
def test_what_is_none(written: str) -> None:
    with pytest.raises(ValueError, match="is no time; write for example 90s"):
        parse_span(written)


def test_a_number_alone_is_refused_with_what_it_may_mean() -> None:
    with pytest.raises(ValueError, match="'90' has no unit; write 90s, 90m or 90h"):
        parse_span("90")


@given(st.integers(0, 10**9))
def test_what_is_written_reads_the_same(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    assert parse_span(format_span(span)) == span
