"""How many replicas a metric asks for: cases of Kubernetes' replica_calculator_test.go, and more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.autoscaling.replicas import (
    NO_METRICS,
    NO_PODS,
    Proposal,
    ScaledPod,
    Tolerance,
    Unmeasured,
    replicas_for_average,
    replicas_for_total,
)

TOLERANCE = Tolerance(0.1, 0.1)


def average(
    target: int, values: list[int | None], *, pending: int = 0, leaving: int = 0
) -> Proposal | Unmeasured:
    """Of replicas with these values (None: not known), of some that wait, and of some that go."""
    running = [ScaledPod(f"running-{number}") for number in range(len(values))]
    others = [ScaledPod(f"pending-{number}", pending=True, ready=False) for number in range(pending)]
    others += [ScaledPod(f"leaving-{number}", leaving=True, ready=False) for number in range(leaving)]
    known = {one.name: value for one, value in zip(running, values, strict=True) if value is not None}
    known |= {f"leaving-{number}": 10**9 for number in range(leaving)}
    return replicas_for_average(target, known, [*running, *others], len(running) + pending, TOLERANCE)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (average(15_000, [20_000, 10_000, 30_000]), Proposal(4, 20_000)),
        (average(10_000, [10_000] * 5), Proposal(5, 10_000)),
        (average(20_000, [10_000] * 5), Proposal(3, 10_000)),
        # Within a tenth of the target nothing is done.
        (average(10_000, [10_990, 10_990]), Proposal(2, 10_990)),
        (average(10_000, [11_010, 11_010]), Proposal(3, 11_010)),
        # One that isn't running yet counts as idle where more are wanted, and not at all where fewer are.
        (average(15_000, [50_000], pending=2), Proposal(4, 50_000)),
        (average(15_000, [30_000], pending=1), Proposal(2, 30_000)),
        (average(50_000, [10_000, 10_000], pending=1), Proposal(1, 10_000)),
        # One that isn't known counts as idle, or as right.
        (average(1_000, [3_000, 3_000, None]), Proposal(6, 3_000)),
        (average(1_000, [100, None]), Proposal(2, 100)),
        (average(1_000, [0, 0, 0, None]), Proposal(1, 0)),
        # What goes doesn't count, whatever it does.
        (average(1_000, [1_000, 1_000], leaving=3), Proposal(2, 1_000)),
        (average(1_000, []), Unmeasured(NO_PODS)),
        (average(1_000, [], pending=2), Unmeasured(NO_METRICS)),
        (average(1_000, [None]), Unmeasured(NO_METRICS)),
    ],
)
def test_of_an_average(found: Proposal | Unmeasured, wanted: Proposal | Unmeasured) -> None:
    assert found == wanted


@given(
    st.integers(1, 10_000),
    st.lists(st.none() | st.integers(0, 50_000), min_size=1, max_size=12),
    st.integers(0, 5),
)
def test_what_is_not_known_never_makes_a_change_larger(
    target: int, values: list[int | None], pending: int
) -> None:
    current, found = len(values) + pending, average(target, values, pending=pending)
    certain = [value for value in values if value is not None]
    if isinstance(found, Unmeasured):
        assert not certain
        return
    ratio = found.average_milli / target
    if ratio > 1:
        assert found.replicas >= min(current, -(-sum(certain) // target)) or found.replicas == current
        assert found.replicas <= max(current, -(-sum(certain) // target))
    else:
        assert found.replicas <= current


@pytest.mark.parametrize(
    ("total", "existing", "wanted"),
    [
        (19_000, 0, Proposal(5, 19_000)),
        (19_000, 1, Proposal(5, 19_000)),
        (8_100, 2, Proposal(2, 4_050)),
        (0, 0, Proposal(0, 0)),
        (1, 0, Proposal(1, 1)),
    ],
)
def test_of_a_total(total: int, existing: int, wanted: Proposal) -> None:
    assert replicas_for_total(4_000, total, existing, existing, TOLERANCE) == wanted


def test_a_pod_is_taken_as_it_says() -> None:
    ready = [{"type": "Ready", "status": "True"}]
    pod = {"metadata": {"name": "a"}, "status": {"phase": "Running", "conditions": ready}}
    assert ScaledPod.of(pod) == ScaledPod("a")
    assert ScaledPod.of({"metadata": {"name": "a"}}) == ScaledPod("a", pending=True, ready=False)
    gone = {**pod, "metadata": {"name": "a", "deletionTimestamp": "2026-01-31T12:00:00Z"}}
    assert ScaledPod.of(gone) == ScaledPod("a", leaving=True, ready=False)
    assert ScaledPod.of({**pod, "status": {"phase": "Running"}}) == ScaledPod("a", ready=False)
