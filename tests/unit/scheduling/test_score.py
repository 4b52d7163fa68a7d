from __future__ import annotations

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.decide import decide
from gpuyard.scheduling.requests import NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

GPU = "nvidia.com/gpu"


def request(gpus: int = 0, cpu: int = 1000, **fields: object) -> PodRequest:
    resources = {"cpu": cpu, **({GPU: gpus} if gpus else {})}
    return PodRequest(ObjectKey("d", "p"), resources=resources, **fields)  # type: ignore[arg-type]


def node(name: str, gpus: int, taken: int = 0, cpu_taken: int = 0, **fields: object) -> NodeState:
    state = NodeState(name, {"cpu": 16000, GPU: gpus}, **fields)  # type: ignore[arg-type]
    return state.with_pods([request(taken, cpu_taken)]) if taken or cpu_taken else state


@pytest.mark.parametrize(
    ("asked", "nodes", "best"),
    [
        pytest.param(request(1), [node("a", 8), node("b", 8, 5), node("c", 8, 3)], "b", id="the fullest"),
        pytest.param(request(3), [node("a", 8), node("b", 8, 6), node("c", 8, 4)], "c", id="that has room"),
        pytest.param(request(2), [node("a", 8, 4), node("b", 8, 6), node("c", 8, 5)], "b", id="best fit"),
        pytest.param(request(2), [node("a", 2), node("b", 8, 6)], "b", id="a whole node stays whole"),
        pytest.param(request(1), [node("b", 8), node("a", 8)], "a", id="ties by name"),
        pytest.param(request(), [node("a", 8), node("b", 0)], "b", id="CPU work stays off GPU nodes"),
        pytest.param(request(), [node("a", 8), node("b", 4, 1)], "b", id="and takes the one with fewer GPUs"),
        pytest.param(request(), [node("a", 8), node("b", 8, 1)], "b", id="and one that isn't whole anyway"),
        pytest.param(request(), [node("a", 0, 0, 9000), node("b", 0, 0, 100)], "b", id="CPU work spreads"),
    ],
)
def test_the_best_node(asked: PodRequest, nodes: list[NodeState], best: str) -> None:
    snapshot = Snapshot({state.name: state for state in nodes})
    assert decide(asked, snapshot).node == best


def test_a_wish_beats_packing() -> None:
    wish = ((1, NodeTerm((Requirement("zone", "In", ("z",)),))),)
    nodes = [node("a", 8, 6), node("b", 8, labels={"zone": "z"})]
    snapshot = Snapshot({state.name: state for state in nodes})
    assert decide(request(1, preferred=wish), snapshot).node == "b"
    assert decide(request(1), snapshot).node == "a"


def test_heavier_wishes_count_more() -> None:
    def wish(zone: str) -> NodeTerm:
        return NodeTerm((Requirement("zone", "In", (zone,)),))

    nodes = [node("a", 8, labels={"zone": "y"}), node("b", 8, labels={"zone": "z"})]
    asked = request(1, preferred=((10, wish("y")), (11, wish("z"))))
    assert decide(asked, Snapshot({state.name: state for state in nodes})).node == "b"


def test_a_soft_taint_is_avoided_unless_tolerated() -> None:
    soft = ({"key": "spot", "effect": "PreferNoSchedule"},)
    snapshot = Snapshot({state.name: state for state in [node("a", 8, taints=soft), node("b", 8)]})
    assert decide(request(1), snapshot).node == "b"
    assert decide(request(1, tolerations=({"key": "spot", "operator": "Exists"},)), snapshot).node == "a"
