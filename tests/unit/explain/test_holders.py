from __future__ import annotations

import pytest

from gpuyard.explain.holders import holders_of, smallest_release
from gpuyard.kube.objects import ObjectKey
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState

GPU = "nvidia.com/gpu"


def pod(
    name: str, gpus: int, *, run: str = "", priority: int = 0, minute: int = 0, ending: bool = False
) -> PodRequest:
    return PodRequest(
        ObjectKey("d", name),
        resources={GPU: gpus, "cpu": 500, "pods": 1},
        node_name="n1",
        priority=priority,
        since=f"2026-01-31T12:{minute:02}:00Z",
        run=run,
        ending=ending,
    )


def node(*pods: PodRequest) -> NodeState:
    return NodeState("n1", {GPU: 100, "cpu": 64000}).with_pods(pods)


def test_a_runs_pods_are_one_holder() -> None:
    state = node(
        pod("t-0", 2, run="t", minute=5), pod("t-1", 2, run="t", minute=3, priority=7), pod("web", 1)
    )
    run, single = holders_of(state.pods, {GPU}, "d")
    assert (run.title, run.pods, run.amounts[GPU], run.priority) == ("run t", 2, 4, 7)
    assert run.describe([GPU]) == "run t (4 GPUs, since 2026-01-31 12:03 UTC)"
    assert single.describe([GPU, "cpu"]) == "pod d/web (1 GPU, 500m CPU, since 2026-01-31 12:00 UTC)"
    assert [run.owns(each) for each in state.pods] == [True, True, False]


def test_only_those_who_hold_what_is_asked_about() -> None:
    idle = PodRequest(ObjectKey("d", "idle"), resources={"cpu": 100})
    assert [h.name for h in holders_of(node(pod("a", 1), idle).pods, {GPU}, "d")] == ["a"]


@pytest.mark.parametrize(
    ("pods", "missing", "released"),
    [
        pytest.param([pod("a", 4), pod("b", 2)], 5, ["a", "b"], id="all of them"),
        pytest.param([pod("a", 4), pod("b", 2)], 7, None, id="not even all of them"),
        pytest.param([pod("a", 1), pod("b", 1), pod("c", 2)], 2, ["c"], id="one instead of two"),
        pytest.param(
            [pod("a", 2, minute=1), pod("b", 2, minute=9), pod("c", 8)], 2, ["b"], id="the youngest"
        ),
        pytest.param(
            [pod("a", 2, priority=5), pod("b", 1), pod("c", 1)], 2, ["b", "c"], id="two that matter less"
        ),
        pytest.param([pod("a", 4, priority=5), pod("b", 1)], 3, ["a"], id="not one that wouldn't help"),
        pytest.param([pod("a", 2, minute=9), pod("b", 2, ending=True)], 2, ["b"], id="one that ends anyway"),
        pytest.param(
            [pod("a", 1), pod("b", 2, ending=True)], 3, ["a", "b"], id="together with one that ends anyway"
        ),
    ],
)
def test_the_smallest_release(pods: list[PodRequest], missing: int, released: list[str] | None) -> None:
    found = smallest_release(node(*pods).pods, {GPU: missing}, "d")
    assert (found and sorted(h.name for h in found)) == released


def test_several_resources_at_once() -> None:
    big = PodRequest(ObjectKey("d", "big"), resources={"cpu": 8000})
    found = smallest_release(node(pod("a", 4), big).pods, {GPU: 2, "cpu": 4000}, "d")
    assert found is not None
    assert sorted(h.name for h in found) == ["a", "big"]


def test_among_very_many_none_is_superfluous() -> None:
    pods = [pod(f"p{number:03}", 1 + number % 3) for number in range(60)]
    found = smallest_release(node(*pods).pods, {GPU: 40}, "d")
    assert found is not None
    total = sum(h.amounts[GPU] for h in found)
    assert total >= 40
    assert all(total - h.amounts[GPU] < 40 for h in found)
