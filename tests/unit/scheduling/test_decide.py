from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.kube.objects import ObjectKey
from gpuyard.scheduling.decide import decide, decide_gang, order
from gpuyard.scheduling.fit import Insufficient, fit
from gpuyard.scheduling.requests import Gang, PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

GPU = "nvidia.com/gpu"

Yards = st.SearchStrategy[tuple[Snapshot, list[PodRequest]]]


def request(name: str = "p", **fields: object) -> PodRequest:
    return PodRequest(ObjectKey("d", name), **fields)  # type: ignore[arg-type]


def test_says_why_on_each_node() -> None:
    snapshot = Snapshot({name: NodeState(name, {GPU: gpus}) for name, gpus in [("a", 2), ("b", 8)]})
    decision = decide(request(resources={GPU: 4}), snapshot)
    assert decision.node == "b"
    assert decision.misfits == {"a": (Insufficient(GPU, 2, 0, 2, 4),)}


def test_the_message_is_kube_schedulers() -> None:
    nodes = [
        NodeState("a", {GPU: 2, "pods": 9}),
        NodeState("b", {GPU: 2, "cpu": 100}),
        # What comes first on a node is what counts.
        NodeState("c", {GPU: 2}, taints=({"key": "dedicated", "value": "ml", "effect": "NoSchedule"},)),
        NodeState("d", unschedulable=True),
    ]
    decision = decide(
        request(resources={GPU: 4, "cpu": 100, "pods": 1}), Snapshot({node.name: node for node in nodes})
    )
    assert decision.node is None
    assert decision.message == (
        "0/4 nodes are available: 1 Insufficient cpu, 1 Too many pods, 1 node(s) had untolerated taint "
        "{dedicated: ml}, 1 node(s) were unschedulable, 2 Insufficient nvidia.com/gpu."
    )


def test_the_message_without_nodes() -> None:
    assert decide(request(), Snapshot()).message == "no nodes available to schedule pods"


def test_the_important_come_first_then_the_old() -> None:
    late, early = "2026-01-31T12:00:01Z", "2026-01-31T12:00:00Z"
    expected = [
        request("z", priority=9, created=late),
        request("y", created=early),
        request("a", created=late),
        request("b", created=late),
        request("x", priority=-1, created=early),
    ]
    assert order(random.Random(1).sample(expected, len(expected))) == expected


def test_those_of_one_second_go_by_arrival_where_it_is_known() -> None:
    a, b, old = request("a", created="2"), request("b", created="2"), request("c", created="1")
    arrivals = {old.key: 3, a.key: 2, b.key: 1}
    assert order([a, b, old], arrivals) == [old, b, a]


@settings(max_examples=300)
@given(data=st.data())
def test_nothing_is_ever_promised_twice(data: st.DataObject, yards: Yards) -> None:
    snapshot, pods = data.draw(yards)
    for pod in order(pods):
        decision = decide(pod, snapshot)
        if decision.node is not None:
            snapshot = snapshot.assume(pod, decision.node)
        else:
            assert all(fit(pod, node) for node in snapshot.nodes.values())
    for node in snapshot.nodes.values():
        for resource in {**node.allotted, **node.allocatable}:
            held = sum(pod.resources.get(resource, 0) for pod in node.pods)
            assert held == node.allotted.get(resource, 0) <= node.allocatable.get(resource, 0)


@settings(max_examples=100)
@given(data=st.data())
def test_the_order_in_which_things_are_told_does_not_matter(data: st.DataObject, yards: Yards) -> None:
    snapshot, pods = data.draw(yards)
    nodes = list(snapshot.nodes.values())
    bound = (
        [replace(pod, node_name=nodes[i % len(nodes)].name) for i, pod in enumerate(pods[1:])]
        if nodes
        else []
    )
    one = Snapshot.build(nodes, bound)
    other = Snapshot.build(data.draw(st.permutations(nodes)), data.draw(st.permutations(bound)))
    assert decide(pods[0], one) == decide(pods[0], other)
    assert order(pods) == order(data.draw(st.permutations(pods)))


def members(count: int, size: int, gpus: int = 4) -> list[PodRequest]:
    return [request(f"p{n}", resources={GPU: gpus}, gang=Gang("u", size)) for n in range(count)]


def test_a_gang_is_placed_whole() -> None:
    snapshot = Snapshot({name: NodeState(name, {GPU: 8}) for name in "ab"})
    decision = decide_gang(members(3, 3), 0, snapshot)
    assert sorted(decision.nodes.values()) in (["a", "a", "b"], ["a", "b", "b"])
    assert decide_gang(members(1, 3), 2, snapshot).nodes
    assert not decide_gang(members(2, 3), 0, snapshot).nodes
    assert not decide_gang(members(2, 3), 0, snapshot).message


def test_a_gang_without_place_for_one_has_none() -> None:
    snapshot = Snapshot({name: NodeState(name, {GPU: gpus}) for name, gpus in (("a", 8), ("b", 2))})
    decision = decide_gang(members(3, 4), 1, snapshot)
    assert not decision.nodes
    assert decision.message == (
        "3 of the 4 pods of its gang have a place, and none starts without the others: "
        "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    )


def test_of_more_than_a_gang_needs_those_start_that_fit() -> None:
    snapshot = Snapshot({"a": NodeState("a", {GPU: 8})})
    decision = decide_gang(members(3, 2), 0, snapshot)
    assert len(decision.nodes) == 2
    assert decision.message == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    assert not decide_gang(members(3, 3), 0, snapshot).nodes


@given(st.lists(st.integers(0, 8), min_size=1, max_size=4), st.integers(2, 6), st.integers(1, 8))
def test_a_gang_takes_no_more_than_there_is(free: list[int], size: int, gpus: int) -> None:
    snapshot = Snapshot({f"n{n}": NodeState(f"n{n}", {GPU: count}) for n, count in enumerate(free)})
    nodes = decide_gang(members(size, size, gpus), 0, snapshot).nodes
    assert bool(nodes) == (sum(count // gpus for count in free) >= size)
    for name, node in snapshot.nodes.items():
        assert list(nodes.values()).count(name) * gpus <= node.allocatable[GPU]
