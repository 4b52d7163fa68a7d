"""The two promises of a rolling update, and that it arrives, whatever the pods do meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.controllers.deployment.rolling import (
    ReplicaBounds,
    Sized,
    bounds_of,
    new_size,
    old_sizes,
    sizes_after_scaling,
)


def spec(replicas: int, surge: int | str, unavailable: int | str) -> dict[str, Any]:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}


@pytest.mark.parametrize(
    ("given_spec", "bounds"),
    [
        (spec(10, "25%", "25%"), ReplicaBounds(10, 3, 2)),
        (spec(3, "25%", "25%"), ReplicaBounds(3, 1, 0)),
        (spec(1, "0%", "25%"), ReplicaBounds(1, 0, 1)),
        (spec(2, 0, 5), ReplicaBounds(2, 0, 2)),
        (spec(0, "25%", "25%"), ReplicaBounds(0, 0, 0)),
        ({"replicas": 4, "strategy": {"type": "Recreate"}}, ReplicaBounds(4)),
    ],
)
def test_percentages_are_rounded_so_that_something_can_move(
    given_spec: dict[str, Any], bounds: ReplicaBounds
) -> None:
    assert bounds_of(given_spec) == bounds


def test_the_new_one_grows_into_the_surge_and_then_the_old_ones_shrink() -> None:
    bounds = ReplicaBounds(10, surge=3, unavailable=2)
    old = [Sized("a", 10, available=10)]
    assert new_size(bounds, Sized("b", 0), old) == 3
    assert old_sizes(bounds, Sized("b", 3), old) == {"a": 8}
    assert old_sizes(bounds, Sized("b", 3, available=3), old) == {"a": 5}


def test_what_is_not_available_goes_first() -> None:
    bounds = ReplicaBounds(4, surge=0, unavailable=1)
    old = [Sized("a", 2, available=2, created_at="1"), Sized("b", 2, available=1, created_at="2")]
    assert old_sizes(bounds, Sized("c", 0), old) == {"b": 1}


def test_a_template_that_never_becomes_ready_leaves_the_old_pods() -> None:
    bounds = ReplicaBounds(3, surge=1, unavailable=0)
    assert old_sizes(bounds, Sized("b", 1), [Sized("a", 3, available=3)]) == {}
    assert new_size(bounds, Sized("b", 1), [Sized("a", 3, available=3)]) == 1


def test_in_the_middle_of_an_update_each_gets_its_share_of_a_scaling() -> None:
    bounds = ReplicaBounds(20, surge=5, unavailable=5)
    old = Sized("a", 9, available=9, created_at="1", desired=10, most=13)
    new = Sized("b", 4, available=2, created_at="2", desired=10, most=13)
    assert sizes_after_scaling(bounds, new, [old], 13) == {"a": 17, "b": 8}
    assert sizes_after_scaling(ReplicaBounds(0), new, [old], 13) == {"a": 0, "b": 0}


def test_a_scaling_without_an_update_is_all_of_the_one_that_has_pods() -> None:
    assert sizes_after_scaling(ReplicaBounds(5), Sized("b", 3), [Sized("a", 0)], 3) == {"b": 5}
    assert sizes_after_scaling(ReplicaBounds(5), None, [Sized("a", 0, created_at="1"), Sized("c", 0)], 0) == {
        "a": 5
    }
    saturated = Sized("b", 5, available=5, desired=5)
    assert sizes_after_scaling(ReplicaBounds(5), saturated, [Sized("a", 2)], 7) == {"a": 0, "b": 5}


@given(
    bounds=st.builds(ReplicaBounds, st.integers(0, 12), st.integers(0, 4), st.integers(0, 4)),
    sizes=st.lists(st.integers(0, 9), min_size=2, max_size=4),
    most=st.integers(0, 20),
)
def test_no_share_is_negative_and_together_they_are_what_is_allowed(
    bounds: ReplicaBounds, sizes: list[int], most: int
) -> None:
    ones = [Sized(str(i), size, created_at=str(i), most=most) for i, size in enumerate(sizes)]
    after = sizes_after_scaling(bounds, ones[0], ones[1:], sum(sizes))
    assert all(size >= 0 for size in after.values())
    if sum(size > 0 for size in sizes) > 1:
        assert sum(after.values()) == bounds.most


@settings(max_examples=200, deadline=None)
@given(
    wanted=st.integers(0, 8),
    surge=st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "50%"])),
    unavailable=st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "100%"])),
    old_sizes_=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    luck=st.lists(st.lists(st.booleans(), min_size=16, max_size=16), max_size=12),
)
def test_never_too_many_never_too_few_and_it_arrives(
    wanted: int,
    surge: int | str,
    unavailable: int | str,
    old_sizes_: list[int],
    luck: list[list[bool]],
) -> None:
    bounds = bounds_of(spec(wanted, surge, unavailable))
    start = _first(old_sizes_, wanted)
    old = [Sized(f"old-{i}", n, available=n, created_at=str(i)) for i, n in enumerate(start)]
    new = Sized("new", 0, created_at="9")
    # First pods become ready and unready as they like, then all that are left alone are.
    for moods in [*luck, *([[True] * 16] * 60)]:
        new, old = _stepped(bounds, new, old)
        new, old = _with_moods(new, old, moods)
    assert new.size == wanted
    assert [one.size for one in old] == [0] * len(old)


def _first(sizes: list[int], wanted: int) -> list[int]:
    """So many pods as a Deployment that had arrived could have."""
    left, result = wanted, []
    for size in sizes:
        result.append(min(size, left))
        left -= result[-1]
    return [*result[:-1], result[-1] + left]


def _stepped(bounds: ReplicaBounds, new: Sized, old: list[Sized]) -> tuple[Sized, list[Sized]]:
    """One look of the controller; a ReplicaSet that shrinks loses its unavailable pods first."""
    available = new.available + sum(one.available for one in old)
    if (size := new_size(bounds, new, old)) != new.size:
        new = replace(new, size=size, available=min(new.available, size))
    else:
        smaller = old_sizes(bounds, new, old)
        old = [
            replace(one, size=(n := smaller.get(one.name, one.size)), available=min(one.available, n))
            for one in old
        ]
    assert new.size + sum(one.size for one in old) <= bounds.wanted + bounds.surge
    after = new.available + sum(one.available for one in old)
    assert after >= min(available, bounds.fewest)
    return new, old


def _with_moods(new: Sized, old: list[Sized], moods: list[bool]) -> tuple[Sized, list[Sized]]:
    left = list(moods)
    changed = []
    for one in (new, *old):
        mine, left = left[: one.size], left[one.size :]
        changed.append(replace(one, available=sum(mine) if mine else min(one.available, one.size)))
    return changed[0], changed[1:]
