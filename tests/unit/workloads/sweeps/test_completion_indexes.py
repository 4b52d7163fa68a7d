from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.workloads.sweeps.completion_indexes import format_indexes, parse_indexes


@pytest.mark.parametrize(
    ("indexes", "text"),
    [
        ((), ""),
        ((0,), "0"),
        ((0, 1), "0,1"),
        ((0, 1, 2, 5), "0-2,5"),
        ((1, 3, 4, 5, 7), "1,3-5,7"),
        ((9, 10, 11), "9-11"),
    ],
)
def test_text_is_what_kubernetes_writes(indexes: tuple[int, ...], text: str) -> None:
    assert format_indexes(indexes) == text
    assert parse_indexes(text, 100) == frozenset(indexes)


def test_indexes_beyond_the_completions_are_left_out() -> None:
    assert parse_indexes("0-9,12", 3) == {0, 1, 2}


def test_an_index_that_is_not_a_number_is_no_completion() -> None:
    assert parse_indexes("1,x,3-y,4", 10) == {1, 4}


@given(st.frozensets(st.integers(0, 60)))
def test_every_set_survives_its_text(indexes: frozenset[int]) -> None:
    assert parse_indexes(format_indexes(indexes), 61) == indexes


def test_ranges_that_come_again_cost_nothing() -> None:
    assert len(parse_indexes("0-99999," * 100_000, 100_000)) == 100_000
