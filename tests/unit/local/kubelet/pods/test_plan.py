from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.local.kubelet.pods.plan import Observed, PodPlan, phase_of, plan

NOW = 1000.0
LATER = NOW + 10
EARLIER = NOW - 10


def _new(name: str = "main", *, init: bool = False, not_before_s: float | None = None) -> Observed:
    return Observed(name, init, not_before_s=not_before_s)


def _run(name: str = "main", *, init: bool = False) -> Observed:
    return Observed(name, init, running=True)


def _end(code: int, name: str = "main", *, init: bool = False, not_before_s: float | None = None) -> Observed:
    return Observed(name, init, exit_code=code, not_before_s=not_before_s)


def _plan(
    *containers: Observed, policy: str = "Never", ending: bool = False, deadline: float | None = None
) -> PodPlan:
    return plan(containers, restart_policy=policy, ending=ending, deadline_s=deadline, now_s=NOW)


@pytest.mark.parametrize(
    ("containers", "policy", "expected"),
    [
        ([_new()], "Never", PodPlan(start=("main",))),
        ([_new("a"), _new("b")], "Never", PodPlan(start=("a", "b"))),
        ([_run()], "Never", PodPlan()),
        ([_end(0)], "Never", PodPlan(done=True)),
        ([_end(1)], "Never", PodPlan(done=True)),
        ([_end(0)], "OnFailure", PodPlan(done=True)),
        ([_end(1)], "OnFailure", PodPlan(start=("main",))),
        ([_end(1, not_before_s=LATER)], "OnFailure", PodPlan(wake_at_s=LATER)),
        ([_end(1, not_before_s=EARLIER)], "OnFailure", PodPlan(start=("main",))),
        ([_end(0)], "Always", PodPlan(start=("main",))),
        ([_end(1, "a"), _run("b")], "Never", PodPlan()),
        ([_end(1, "a"), _run("b")], "OnFailure", PodPlan(start=("a",))),
        # Init containers: one after the other, before all others.
        ([_new("i", init=True), _new("j", init=True), _new()], "Never", PodPlan(start=("i",))),
        ([_run("i", init=True), _new("j", init=True), _new()], "Never", PodPlan()),
        ([_end(0, "i", init=True), _new("j", init=True), _new()], "Never", PodPlan(start=("j",))),
        ([_end(0, "i", init=True), _end(0, "j", init=True), _new()], "Never", PodPlan(start=("main",))),
        ([_end(1, "i", init=True), _new()], "Never", PodPlan(done=True)),
        ([_end(1, "i", init=True), _new()], "OnFailure", PodPlan(start=("i",))),
        ([_end(1, "i", init=True, not_before_s=LATER), _new()], "Always", PodPlan(wake_at_s=LATER)),
        # It ended well once: that it did so before the others is enough.
        ([_end(0, "i", init=True), _end(0)], "Always", PodPlan(start=("main",))),
        # An obstacle such as a missing ConfigMap.
        ([_new(not_before_s=LATER)], "Never", PodPlan(wake_at_s=LATER)),
    ],
)
def test_next_step(containers: list[Observed], policy: str, expected: PodPlan) -> None:
    assert _plan(*containers, policy=policy) == expected


def test_ending() -> None:
    assert _plan(_run(), ending=True) == PodPlan(stop=True)
    assert _plan(_new(), ending=True) == PodPlan(done=True)
    assert _plan(_end(1), policy="Always", ending=True) == PodPlan(done=True)


def test_deadline() -> None:
    assert _plan(_run(), deadline=LATER) == PodPlan(wake_at_s=LATER)
    assert _plan(_run(), deadline=NOW) == PodPlan(stop=True, expired=True)
    assert _plan(_new(), deadline=EARLIER) == PodPlan(done=True, expired=True)
    assert _plan(_end(1, not_before_s=LATER), policy="Always", deadline=EARLIER) == PodPlan(
        done=True, expired=True
    )
    # What was over before the deadline is not touched by it.
    assert _plan(_end(0), deadline=EARLIER) == PodPlan(done=True)
    soon = NOW + 1
    assert _plan(_end(1, not_before_s=LATER), policy="Always", deadline=soon) == PodPlan(wake_at_s=soon)


@pytest.mark.parametrize(
    ("containers", "done", "expected"),
    [
        ([_new()], False, "Pending"),
        ([_run()], False, "Running"),
        ([_run("a"), _new("b")], False, "Pending"),
        ([_run("a"), _end(1, "b")], False, "Running"),
        ([_run("i", init=True), _new()], False, "Pending"),
        ([_end(0, "i", init=True), _run()], False, "Running"),
        ([_end(1)], False, "Running"),
        ([_end(0)], True, "Succeeded"),
        ([_end(0, "a"), _end(2, "b")], True, "Failed"),
        ([_end(1, "i", init=True), _new()], True, "Failed"),
        ([_new()], True, "Failed"),
    ],
)
def test_phase(containers: list[Observed], done: bool, expected: str) -> None:
    assert phase_of(containers, done=done) == expected


_CONTAINERS = st.lists(
    st.builds(
        lambda init, state, later: Observed(
            "x",
            init,
            running=state == "running",
            exit_code=state if isinstance(state, int) else None,
            not_before_s=LATER if later else None,
        ),
        st.booleans(),
        st.sampled_from(["new", "running", 0, 1]),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
).map(
    lambda found: [
        Observed(f"c{n}", c.is_init, c.running, c.exit_code, c.not_before_s)
        for n, c in enumerate(sorted(found, key=lambda c: not c.is_init))
    ]
)


@given(
    _CONTAINERS.filter(lambda cs: not all(c.is_init for c in cs)),
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.booleans(),
    st.sampled_from([None, EARLIER, LATER]),
)
def test_laws(containers: list[Observed], policy: str, ending: bool, deadline: float | None) -> None:
    step = plan(containers, restart_policy=policy, ending=ending, deadline_s=deadline, now_s=NOW)
    by_name = {c.name: c for c in containers}
    running = any(c.running for c in containers)
    assert not (step.stop and step.start)
    assert not (step.done and (step.start or step.stop))
    if step.stop:
        assert running
    for name in step.start:
        assert not by_name[name].running
        assert by_name[name].not_before_s is None
        assert policy != "Never" or by_name[name].exit_code is None
        if not by_name[name].is_init:
            assert all(c.succeeded for c in containers if c.is_init)
    if step.done:
        assert phase_of(containers, done=True) in ("Succeeded", "Failed")
    # It never waits for something that doesn't come.
    assert step.done or step.start or running or step.wake_at_s is not None
