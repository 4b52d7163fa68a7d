from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.local.service_proxy.figures import Figures


def test_the_rate_is_of_the_last_minute() -> None:
    figures = Figures(0.0)
    for second in range(100):
        figures.begin(float(second))
        figures.end(float(second), "a", 200, 0.1)
    assert figures.per_second(99.0) == 1.0
    assert figures.per_second(130.0) == pytest.approx(29 / 60)
    assert figures.per_second(200.0) == 0.0


def test_the_rate_of_a_new_proxy_is_of_the_time_that_it_has_counted() -> None:
    figures = Figures(0.0)
    for _ in range(20):
        figures.begin(1.0)
    assert figures.per_second(10.0) == 2.0


@given(st.lists(st.floats(1e-4, 3600.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_quantiles_are_right_within_five_percent(times: list[float], wanted: float) -> None:
    figures = Figures(0.0)
    for took in times:
        figures.begin(1.0)
        figures.end(1.0, "a", 200, took)
    exact = sorted(times)[math.ceil(len(times) * wanted) - 1]
    (told,) = figures.quantiles(1.0, (wanted,))
    assert exact * 0.999 <= told <= exact * 1.051


def test_tunnels_have_no_time() -> None:
    figures = Figures(0.0)
    figures.begin(1.0)
    figures.end(1.0, "a", 101, None)
    assert math.isnan(figures.quantiles(1.0, (0.5,))[0])
    assert figures.answers == {"a": {"1xx": 1}}


def test_a_service_is_idle_from_the_end_of_its_last_request() -> None:
    figures = Figures(0.0)
    assert figures.idle_s(5.0) == 5.0
    figures.begin(5.0)
    assert figures.idle_s(9.0) == 0.0
    figures.end(9.0, "a", 200, 4.0)
    assert figures.idle_s(10.0) == 1.0


@pytest.mark.parametrize("own", [0, 1])
def test_counts_of_replicas_of_long_ago_lose_only_their_names(own: int) -> None:
    figures = Figures(0.0)
    for number, name in enumerate([""] * own + [f"r{number}" for number in range(1000)]):
        figures.begin(0.0)
        figures.end(0.0, name, 200 if number % 2 else 502, 0.1)
        counts = figures.answers.values()
        assert sum(sum(one.values()) for one in counts) == number + 1  # what all have together never falls
        assert len(counts) <= 257
    assert figures.answers["r999"]
    assert figures.answers[""].keys() == {"2xx", "5xx"}
