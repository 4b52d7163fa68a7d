from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.conditions import condition_is_true, find_condition, with_condition, without_preemption

OLD, NEW = "2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z"


def test_finds() -> None:
    ready = {"type": "Ready", "status": "True"}
    manifest = {"status": {"conditions": [{"type": "Initialized", "status": "False"}, ready]}}
    assert find_condition(manifest, "Ready") == ready
    assert condition_is_true(manifest, "Ready")
    assert not condition_is_true(manifest, "Initialized")
    assert find_condition(manifest, "ContainersReady") is None


@pytest.mark.parametrize("manifest", [{}, {"status": None}, {"status": {}}, {"status": {"conditions": None}}])
def test_finds_nothing_where_nothing_is(manifest: dict[str, Any]) -> None:
    assert find_condition(manifest, "Ready") is None
    assert not condition_is_true(manifest, "Ready")


def test_adds() -> None:
    assert with_condition([], "Ready", "False", now=NEW, reason="Starting", message="not yet") == [
        {
            "type": "Ready",
            "status": "False",
            "lastTransitionTime": NEW,
            "reason": "Starting",
            "message": "not yet",
        }
    ]


def test_moves_the_time_when_the_status_changes() -> None:
    old = {
        "type": "Ready",
        "status": "False",
        "lastTransitionTime": OLD,
        "reason": "Starting",
        "message": "not yet",
        "observedGeneration": 3,
    }
    assert with_condition([old], "Ready", "True", now=NEW) == [
        {"type": "Ready", "status": "True", "lastTransitionTime": NEW, "observedGeneration": 3}
    ]
    assert with_condition([old], "Ready", "False", now=NEW, reason="Waiting") == [
        {
            "type": "Ready",
            "status": "False",
            "lastTransitionTime": OLD,
            "reason": "Waiting",
            "observedGeneration": 3,
        }
    ]
    assert old["reason"] == "Starting"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["True", "False", "Unknown"]))))
def test_there_is_one_of_each_type_and_it_is_the_last_one_set(steps: list[tuple[str, str]]) -> None:
    conditions: list[dict[str, Any]] = []
    for number, (type_, status) in enumerate(steps):
        conditions = with_condition(conditions, type_, status, now=str(number))
    assert {c["type"]: c["status"] for c in conditions} == dict(steps)
    assert len(conditions) == len({type_ for type_, _ in steps})
    for condition in conditions:
        own = [(number, status) for number, (type_, status) in enumerate(steps) if type_ == condition["type"]]
        others = [number for number, status in own if status != own[-1][1]]
        since = next(number for number, _ in own if number > max(others, default=-1))
        assert condition["lastTransitionTime"] == str(since)


@pytest.mark.parametrize(
    "tried",
    [
        " no new claims to deallocate, preemption: 2 Preemption",
        " preemption: 0/2 nodes",
        ", pod group preemption: No preemption victims found for incoming preemptor",
    ],
)
def test_what_preemption_could_do_is_left_out(tried: str) -> None:
    assert without_preemption(f"1 scheduled, 0 remaining{tried}") == "1 scheduled, 0 remaining"
