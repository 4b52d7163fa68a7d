from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.fit import (
    Cordoned,
    Insufficient,
    LabelMismatch,
    NotReady,
    OtherNode,
    Untolerated,
    VolumeElsewhere,
    WrongModel,
    fit,
)
from gpuyard.scheduling.requests import NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import NodeState

GPU = "nvidia.com/gpu"
MODEL = "gpuyard.io/gpu-model"
ALLOCATABLE = {"cpu": 8000, "memory": 2**33, GPU: 8, "pods": 110}


def request(**fields: Any) -> PodRequest:
    return PodRequest(ObjectKey("d", "p"), **fields)


def node(**fields: Any) -> NodeState:
    return NodeState("n1", **{"allocatable": ALLOCATABLE, **fields})


def needs(key: str, operator: str, *values: str) -> Requirement:
    return Requirement(key, operator, values)


def test_fits() -> None:
    assert fit(request(resources={"cpu": 8000, GPU: 8, "pods": 1}), node()) == []


@pytest.mark.parametrize(
    ("asked", "state", "misfit"),
    [
        (request(), node(ready=False), NotReady()),
        (request(), node(unschedulable=True), Cordoned()),
        (request(node_name="n2"), node(), OtherNode("n2")),
    ],
)
def test_the_node_itself(asked: PodRequest, state: NodeState, misfit: object) -> None:
    assert fit(asked, state) == [misfit]


@pytest.mark.parametrize(
    ("requirement", "matches"),
    [
        (needs("zone", "In", "a", "b"), True),
        (needs("zone", "In", "b"), False),
        (needs("zone", "NotIn", "b"), True),
        (needs("zone", "NotIn", "a"), False),
        (needs("rack", "NotIn", "a"), True),
        (needs("zone", "Exists"), True),
        (needs("rack", "Exists"), False),
        (needs("rack", "DoesNotExist"), True),
        (needs("zone", "DoesNotExist"), False),
        (needs("speed", "Gt", "9"), True),
        (needs("speed", "Gt", "10"), False),
        (needs("speed", "Lt", "11"), True),
        (needs("speed", "Lt", "10"), False),
        (needs("zone", "Gt", "1"), False),
        (needs("rack", "Gt", "1"), False),
    ],
)
def test_required_affinity_by_label(requirement: Requirement, matches: bool) -> None:
    misfits = fit(request(affinity=(NodeTerm((requirement,)),)), node(labels={"zone": "a", "speed": "10"}))
    assert misfits == ([] if matches else [LabelMismatch((), affinity=True)])


@pytest.mark.parametrize(("name", "matches"), [("n1", True), ("n2", False)])
def test_required_affinity_by_name(name: str, matches: bool) -> None:
    term = NodeTerm(fields=(needs("metadata.name", "In", name),))
    assert (fit(request(affinity=(term,)), node()) == []) is matches


def test_one_term_is_enough_and_all_of_its_clauses_must_hold() -> None:
    zone, disk = needs("zone", "In", "a"), needs("disk", "In", "ssd")
    labels = {"zone": "a"}
    assert fit(request(affinity=(NodeTerm((zone, disk)),)), node(labels=labels))
    assert not fit(request(affinity=(NodeTerm((zone, disk)), NodeTerm((zone,)))), node(labels=labels))


def test_affinity_without_terms_matches_nothing() -> None:
    assert fit(request(affinity=()), node()) == [LabelMismatch((), affinity=True)]


def test_selector_names_the_labels_that_are_missing() -> None:
    asked = request(selector=(needs("zone", "In", "a"), needs("disk", "In", "ssd")))
    (misfit,) = fit(asked, node(labels={"zone": "a"}))
    assert misfit == LabelMismatch((needs("disk", "In", "ssd"),), affinity=False)
    assert str(misfit) == "hasn't the label disk=ssd"


@pytest.mark.parametrize(
    "asked",
    [
        request(selector=(needs(MODEL, "In", "A100"),)),
        request(affinity=(NodeTerm((needs(MODEL, "In", "A100"),)),)),
    ],
)
@pytest.mark.parametrize("actual", ["H100", ""])
def test_another_model(asked: PodRequest, actual: str) -> None:
    labels = {MODEL: actual} if actual else {}
    assert fit(asked, node(labels=labels)) == [WrongModel(("A100",), actual)]


def test_the_model_is_not_blamed_for_what_else_is_wrong() -> None:
    asked = request(affinity=(NodeTerm((needs(MODEL, "In", "A100"), needs("zone", "In", "b"))),))
    assert fit(asked, node(labels={MODEL: "H100", "zone": "a"})) == [LabelMismatch((), affinity=True)]


@pytest.mark.parametrize("effect", ["NoSchedule", "NoExecute"])
def test_a_taint_has_to_be_tolerated(effect: str) -> None:
    tainted = node(taints=({"key": "dedicated", "value": "ml", "effect": effect},))
    assert fit(request(), tainted) == [Untolerated("dedicated", "ml", effect)]
    for toleration in (
        {"key": "dedicated", "value": "ml", "effect": effect},
        {"key": "dedicated", "operator": "Exists"},
        {"operator": "Exists"},
    ):
        assert fit(request(tolerations=(toleration,)), tainted) == []


def test_a_soft_taint_is_no_misfit() -> None:
    assert fit(request(), node(taints=({"key": "a", "effect": "PreferNoSchedule"},))) == []


def test_every_short_resource_with_its_numbers() -> None:
    taken = PodRequest(ObjectKey("d", "q"), resources={GPU: 6, "cpu": 1000})
    asked = request(resources={GPU: 4, "cpu": 7001, "memory": 1, "example.com/fpga": 1})
    assert fit(asked, node().with_pods([taken])) == [
        Insufficient(GPU, capacity=8, allotted=6, free=2, needs=4),
        Insufficient("cpu", capacity=8000, allotted=1000, free=7000, needs=7001),
        Insufficient("example.com/fpga", capacity=0, allotted=0, free=0, needs=1),
    ]


def test_a_node_takes_only_so_many_pods() -> None:
    full = node(allocatable={"pods": 1}).with_pods([request(resources={"pods": 1})])
    (misfit,) = fit(request(resources={"pods": 1}), full)
    assert misfit.short == "Too many pods"


def test_what_became_unhealthy_under_its_pods_is_not_free() -> None:
    state = node(allocatable={GPU: 1}).with_pods([request(resources={GPU: 2})])
    (misfit,) = fit(request(resources={GPU: 1}), state)
    assert str(misfit) == "has 0 GPUs free, needs 1"


def test_a_volume_that_is_tied_to_other_nodes() -> None:
    volume = ("pv-1", (NodeTerm((Requirement("zone", "In", ("a",)),)),))
    assert fit(request(volumes=(volume,)), node(labels={"zone": "a"})) == []
    assert fit(request(volumes=(volume,)), node(labels={"zone": "b"})) == [VolumeElsewhere("pv-1")]


def test_a_state_that_is_also_a_taint_is_said_once() -> None:
    unreachable = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    away = node(ready=False, not_ready="not ready: Kubelet stopped", taints=(unreachable,))
    assert [str(m) for m in fit(request(), away)] == ["is not ready: Kubelet stopped"]
    unschedulable = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    assert [str(m) for m in fit(request(), node(unschedulable=True, taints=(unschedulable,)))] == [
        "is cordoned"
    ]
