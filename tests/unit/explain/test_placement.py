from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.explain.placement import Blocker, could_ever_fit, explain
from gpuyard.gpus.faults import GpuFault
from gpuyard.kube.objects import ObjectKey
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.decide import decide
from gpuyard.scheduling.requests import Gang, NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

GPU = "nvidia.com/gpu"
MODEL = "gpuyard.io/gpu-model"
SnapshotOf = Callable[..., Snapshot]
Yards = st.SearchStrategy[tuple[Snapshot, list[PodRequest]]]


def request(gpus: int = 0, cpu: int = 1000, **fields: object) -> PodRequest:
    resources = {GPU: gpus, "cpu": cpu, "pods": 1} if gpus else {"cpu": cpu, "pods": 1}
    return PodRequest(ObjectKey("d", "p"), **{"resources": resources, **fields})  # type: ignore[arg-type]


def held(gpus: int, run: str, cpu: int = 1000) -> PodRequest:
    resources = {GPU: gpus, "cpu": cpu, "pods": 1}
    return PodRequest(ObjectKey("d", run), resources=resources, run=run, since="2026-01-31T12:00:00Z")


def node(name: str = "a", gpus: int = 8, *pods: PodRequest, **fields: object) -> NodeState:
    amounts = {GPU: gpus, "cpu": 16000, "pods": 110}
    state = NodeState(name, **{"allocatable": amounts, "capacity": amounts, **fields})  # type: ignore[arg-type]
    return state.with_pods(pods)


A100 = NodeTerm((Requirement(MODEL, "In", ("A100",)),))
TAINTS = ({"key": "dedicated", "value": "ml", "effect": "NoSchedule"},)


@pytest.mark.parametrize(
    ("asked", "nodes", "blocker", "headline"),
    [
        pytest.param(request(4), [node("a")], None, "fits on node a now", id="fits"),
        pytest.param(
            request(4),
            [node("a", 8, held(6, "t")), node("b", 8, held(5, "u"))],
            Blocker.BUSY,
            "needs 4 GPUs, the most that is free on one node is 3 (node b)",
            id="busy",
        ),
        pytest.param(
            request(4, 12000),
            [node("a", 8, held(6, "t")), node("b", 8, held(2, "u", 8000))],
            Blocker.BUSY,
            "no single node has 4 GPUs, 12 CPUs together",
            id="enough of each, nowhere of all",
        ),
        pytest.param(
            request(4),
            [node("a", unschedulable=True), node("b", 8, taints=TAINTS)],
            Blocker.NODE,
            "node a is cordoned, and it fits on no other",
            id="cordoned",
        ),
        pytest.param(
            request(4), [node("a", ready=False)], Blocker.NODE, "node a is not ready", id="not ready"
        ),
        pytest.param(
            request(4, affinity=(A100,)),
            [node("a", labels={MODEL: "H100"}), node("b", 8, held(8, "t"), labels={MODEL: "A100"})],
            Blocker.BUSY,
            "needs 4 GPUs, the most that is free on one node is 0 (node b)",
            id="the right model is busy",
        ),
    ],
)
def test_what_holds_it_now(
    asked: PodRequest, nodes: list[NodeState], blocker: Blocker | None, headline: str, snapshot_of: SnapshotOf
) -> None:
    snapshot = snapshot_of(*nodes)
    assert could_ever_fit(asked, snapshot) is None
    found = explain(asked, snapshot)
    assert (found.blocker, found.headline, found.never) == (blocker, headline, False)


def test_a_gang_does_not_hold_the_nodes_that_it_waits_for(snapshot_of: SnapshotOf) -> None:
    gang = Gang("u", 2)
    asked, other = request(8, run="train", gang=gang), replace(held(8, "train"), gang=gang)
    found = explain(asked, snapshot_of(node("a", 8, other), node("b", 8, held(8, "t"))))
    assert "held by run train" not in "\n".join(found.lines())
    assert "        of these, 8 GPUs are for the run's other pods" in found.lines()
    assert "        held by run t (8 GPUs, since 2026-01-31 12:00 UTC)" in found.lines()


@pytest.mark.parametrize(
    ("asked", "nodes", "blocker", "why"),
    [
        pytest.param(request(1), [], Blocker.NO_NODES, "there are no nodes", id="no nodes"),
        pytest.param(
            request(2), [node("a", 0)], Blocker.NO_GPUS, "needs 2 GPUs, and no node has any", id="no GPUs"
        ),
        pytest.param(
            request(2, affinity=(A100,)),
            [node("a", 0)],
            Blocker.NO_GPUS,
            "needs 2 GPUs, and no node has any",
            id="no GPUs, whatever the model",
        ),
        pytest.param(
            request(16),
            [node("n1", 8, held(8, "t")), node("n0", 4)],
            Blocker.TOO_LARGE,
            "needs 16 GPUs, the largest node n1 has 8",
            id="too large",
        ),
        pytest.param(
            request(16, 32000),
            [node("n1")],
            Blocker.TOO_LARGE,
            "needs 16 GPUs, the largest node n1 has 8; needs 32 CPUs, the largest node n1 has 16",
            id="too large in two ways",
        ),
        pytest.param(
            request(8, affinity=(A100,)),
            [node("a", 4, labels={MODEL: "A100"}), node("b", 8, labels={MODEL: "H100"}, taints=TAINTS)],
            Blocker.TOO_LARGE,
            "needs 8 GPUs, the largest node a has 4",
            id="too large for those of the right model",
        ),
        pytest.param(
            request(4, affinity=(A100,)),
            [node("a", labels={MODEL: "H100"}), node("b", labels={MODEL: "H100"}), node("c")],
            Blocker.MODEL,
            "the GPU model it needs is A100; there is H100 (node a, b)",
            id="no such model",
        ),
        pytest.param(
            request(selector=(Requirement("disk", "In", ("ssd",)),)),
            [node("a")],
            Blocker.SELECTOR,
            "node a hasn't the label disk=ssd",
            id="selector",
        ),
        pytest.param(
            request(),
            [node("a", taints=TAINTS)],
            Blocker.TAINTS,
            "node a has the taint dedicated=ml:NoSchedule, which isn't tolerated",
            id="taint",
        ),
        pytest.param(
            request(node_name="x"),
            [node("a")],
            Blocker.NODE,
            "node a is not x, the node asked for by name",
            id="name",
        ),
    ],
)
def test_what_no_node_could_ever_run(
    asked: PodRequest, nodes: list[NodeState], blocker: Blocker, why: str, snapshot_of: SnapshotOf
) -> None:
    snapshot = snapshot_of(*nodes)
    found = could_ever_fit(asked, snapshot)
    assert found is not None
    assert (found.blocker, found.never) == (blocker, True)
    assert found.headline == f"no node could ever run this: {why}"
    assert explain(asked, snapshot) == found


@pytest.mark.parametrize(
    "state",
    [
        node("a", 8, held(8, "t")),
        node("a", unschedulable=True),
        node("a", ready=False, taints=({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},)),
        node("a", allocatable={GPU: 0, "cpu": 16000, "pods": 110}),
    ],
    ids=["full", "cordoned", "away", "unhealthy"],
)
def test_what_passes_is_no_reason_to_refuse(state: NodeState, snapshot_of: SnapshotOf) -> None:
    assert could_ever_fit(request(8), snapshot_of(state)) is None


def test_what_is_held_now_has_no_part_in_what_never_runs(snapshot_of: SnapshotOf) -> None:
    busy = node("a", 8, held(6, "t"), capacity={GPU: 8, "cpu": 16000, "pods": 110}, unschedulable=True)
    assert explain(request(16), snapshot_of(busy)).lines() == [
        "no node could ever run this: needs 16 GPUs, the largest node a has 8",
        "node a: 8 GPUs, needs 16",
        "        16 CPUs, needs 1",
        "what could run: ask for 8 GPUs instead of 16 (node a)",
    ]


def test_the_lines_for_people(snapshot_of: SnapshotOf) -> None:
    sick = node(
        "b", 8, allocatable={GPU: 7, "cpu": 16000, "pods": 110}, capacity={GPU: 8, "cpu": 16000, "pods": 110}
    ).with_pods([held(4, "u", 500), held(2, "v")])
    tainted = node("c", taints=TAINTS, unschedulable=True)
    snapshot = snapshot_of(node("a", 8, held(6, "t")), sick, tainted)
    assert explain(request(4), snapshot).lines() == [
        "needs 4 GPUs, the most that is free on one node is 2 (node a)",
        "node a: 8 GPUs, 6 allotted, 2 free, needs 4",
        "        16 CPUs, 1 allotted, 15 free, needs 1",
        "        held by run t (6 GPUs, since 2026-01-31 12:00 UTC)",
        "node b: 8 GPUs, 1 unhealthy, 6 allotted, 1 free, needs 4",
        "        16 CPUs, 1500m allotted, 14500m free, needs 1",
        "        held by run u (4 GPUs, since 2026-01-31 12:00 UTC), "
        "run v (2 GPUs, since 2026-01-31 12:00 UTC)",
        "node c: is cordoned",
        "        has the taint dedicated=ml:NoSchedule, which isn't tolerated",
        "        8 GPUs, needs 4",
        "what would run now: ask for 2 GPUs instead of 4 (node a)",
        "or: stop run t (node a)",
    ]


def test_devices_that_became_unhealthy_under_their_pods(snapshot_of: SnapshotOf) -> None:
    state = node("a", allocatable={GPU: 4, "cpu": 16000, "pods": 110}).with_pods([held(6, "t")])
    assert explain(request(2), snapshot_of(state)).lines()[:2] == [
        "needs 2 GPUs, the most that is free on one node is 0 (node a)",
        "node a: 8 GPUs, 4 unhealthy, 6 allotted, 0 free, needs 2",
    ]


def test_the_reason_of_unhealthy_gpus_is_told(snapshot_of: SnapshotOf) -> None:
    faults = (GpuFault(3, "GPU-3", "XID 79", ""), GpuFault(4, "GPU-4", "lost", ""))
    some = node("a", allocatable={GPU: 6, "cpu": 16000, "pods": 110}, faults=faults)
    said = (
        "GPU 3 is unhealthy: XID 79 (GPU has fallen off the bus); "
        "GPU 4 is unhealthy: lost (the driver doesn't reach it any more)"
    )
    assert f"        {said}" in explain(request(8), snapshot_of(some)).lines()
    assert not any("XID" in line for line in explain(request(cpu=99_000), snapshot_of(some)).lines())
    none = node("a", 2, allocatable={"cpu": 16000, "pods": 110}, faults=faults)
    explanation = explain(request(1), snapshot_of(none))
    assert explanation.blocker is Blocker.UNHEALTHY
    assert explanation.headline == f"needs 1 GPU, and none of the 2 GPUs of node a can be had: {said}"
    assert explanation.to_json()["nodes"][0]["faults"][0]["reason"] == "XID 79"


def test_why_a_node_has_none_to_give_is_said_as_its_agent_does(snapshot_of: SnapshotOf) -> None:
    why = "there is no libnvidia-ml.so.1"
    gone = node("a", 2, allocatable={"cpu": 16000, "pods": 110}, no_gpus=why)
    assert explain(request(1), snapshot_of(gone)).headline.endswith(f"of node a can be had: {why}")
    never = node("a", 0, no_gpus=why)
    assert explain(request(1), snapshot_of(never)).hints == (
        f"node a has no GPUs to give, says its agent: {why}",
    )


def test_lines_stop_after_the_nearest_nodes(snapshot_of: SnapshotOf) -> None:
    snapshot = snapshot_of(*(node(f"n{number}", 2) for number in range(9)))
    lines = explain(request(4), snapshot).node_lines(limit=4)
    assert [line for line in lines if line.startswith(("node", "…"))] == [
        "node n0: 2 GPUs, needs 4",
        "node n1: 2 GPUs, needs 4",
        "… and 7 more nodes (7 resources)",
    ]


def test_says_when_nothing_would_help(snapshot_of: SnapshotOf) -> None:
    assert explain(request(4), snapshot_of(node("a", ready=False))).lines()[-1] == (
        "no change of this request alone would let it run now"
    )
    assert explain(request(4), snapshot_of(node("a", 0))).lines()[-1] == (
        "no change of this request alone would let it run"
    )


def offers(name: str, **devices: int) -> NodeState:
    resources = {
        **{key.replace("_", "/", 1): count for key, count in devices.items()},
        "cpu": 16000,
        "pods": 110,
    }
    return NodeState(name, allocatable=resources, capacity=resources)


def asks(resource: str) -> PodRequest:
    return PodRequest(ObjectKey("d", "p"), resources={resource: 1, "cpu": 1000, "pods": 1})


@pytest.mark.parametrize(
    ("asked", "there", "blocker", "hint", "plans"),
    [
        ("nvidia.com/gpus", {"nvidia.com_gpu": 8}, "no_resource",
         "instead of nvidia.com/gpus there is nvidia.com/gpu (node a)",
         ["ask for nvidia.com/gpu instead of nvidia.com/gpus (node a)"]),
        ("nivida.com/gpu", {"nvidia.com_gpu": 8}, "no_resource",
         "instead of nivida.com/gpu there is nvidia.com/gpu (node a)",
         ["ask for nvidia.com/gpu instead of nivida.com/gpu (node a)"]),
        ("nvidia.com/mig-1g.10gb", {"nvidia.com_mig-2g.20gb": 3, "nvidia.com_gpu": 1}, "no_resource",
         "instead of nvidia.com/mig-1g.10gb there is "
         "nvidia.com/mig-2g.20gb (node a), nvidia.com/gpu (node a)",
         ["ask for nvidia.com/mig-2g.20gb instead of nvidia.com/mig-1g.10gb with --gpus 2g.20gb:1 (node a)"]),
        # Time-slicing may rename what it shares.
        ("nvidia.com/gpu", {"nvidia.com_gpu.shared": 8}, "no_resource",
         "instead of nvidia.com/gpu there is nvidia.com/gpu.shared (node a)",
         ["ask for nvidia.com/gpu.shared instead of nvidia.com/gpu with --gpus shared:1 (node a)"]),
        # Whole ones before shares and parts, whose names are more like it.
        ("nvidia.com/gpu", {"nvidia.com_gpu.shared": 8, "nvidia.com_h100": 2}, "no_resource",
         "instead of nvidia.com/gpu there is nvidia.com/h100 (node a), nvidia.com/gpu.shared (node a)",
         ["ask for nvidia.com/h100 instead of nvidia.com/gpu with --gpus H100:1 (node a)"]),
        # Another vendor's won't run the same program.
        ("nvidia.com/gpu", {"amd.com_gpu": 8}, "no_resource",
         "instead of nvidia.com/gpu there is amd.com/gpu (node a)", []),
        ("nvidia.com/h100", {"nvidia.com_gpu": 8, "nvidia.com_gpu.shared": 2}, "no_resource",
         "instead of nvidia.com/h100 there is nvidia.com/gpu (node a), nvidia.com/gpu.shared (node a)",
         ["ask for nvidia.com/gpu instead of nvidia.com/h100 (node a)"]),
        ("rdma/hca", {"nvidia.com_gpu": 8}, "no_resource",
         "no device plugin that serves rdma/hca runs anywhere", []),
        ("nvidia.com/gpu", {}, "no_gpus", None, []),
    ],
)  # fmt: skip
def test_a_device_that_no_node_has_by_that_name(
    asked: str, there: dict[str, int], blocker: str, hint: str | None, plans: list[str],
    snapshot_of: SnapshotOf,
) -> None:  # fmt: skip
    found = explain(asks(asked), snapshot_of(offers("a", **there)))
    assert (found.blocker, found.never) == (blocker, True)
    assert list(found.hints) == ([hint] if hint else [])
    assert [str(plan) for plan in found.plans] == plans


@pytest.mark.parametrize(
    ("asked", "there", "how"),
    [
        ("nvidia.com/gpu.shared", {"nvidia.com_gpu": 8}, "--gpu-config"),
        ("amd.com/gpu.shared", {}, "--gpu-config"),
        ("nvidia.com/mig-1g.10gb", {"nvidia.com_gpu": 8}, "--mig-strategy mixed"),
    ],
)
def test_what_would_make_nodes_offer_shares_and_parts(
    asked: str, there: dict[str, int], how: str, snapshot_of: SnapshotOf
) -> None:
    found = explain(asks(asked), snapshot_of(offers("a", **there)))
    assert found.never
    assert how in found.hints[-1] and "docs/how-to/" in found.hints[-1]


def test_a_device_that_is_there_and_held_is_asked_for_by_no_other_name(snapshot_of: SnapshotOf) -> None:
    nodes = (
        offers("a", **{"nvidia.com_mig-1g.10gb": 0, "nvidia.com_gpu": 8}),
        offers("b", **{"nvidia.com_mig-1g.10gb": 7}),
    )
    found = explain(
        replace(asks("nvidia.com/mig-1g.10gb"), resources={"nvidia.com/mig-1g.10gb": 8}), snapshot_of(*nodes)
    )
    assert found.blocker is Blocker.TOO_LARGE
    assert not any("instead of nvidia.com/mig" in str(plan) for plan in found.plans)


def test_as_json(snapshot_of: SnapshotOf) -> None:
    found = explain(request(4), snapshot_of(node("a", 8, held(6, "t")))).to_json()
    assert json.loads(json.dumps(found)) == found
    assert (found["blocker"], found["never"]) == ("busy", False)
    assert found["nodes"][0]["misfits"] == [{"step": "resources", "text": "has 2 GPUs free, needs 4"}]
    assert found["nodes"][0]["resources"][0] == {
        "resource": GPU, "total": "8", "unhealthy": "0", "others": "0",
        "allotted": "6", "free": "2", "needs": "4",
    }  # fmt: skip
    assert [holder["name"] for holder in found["nodes"][0]["holders"]] == ["t"]
    assert [plan["text"] for plan in found["plans"]] == [
        "ask for 2 GPUs instead of 4 (node a)",
        "stop run t (node a)",
    ]


@settings(max_examples=300)
@given(data=st.data())
def test_never_means_never_and_every_plan_works(data: st.DataObject, yards: Yards) -> None:
    empty, pods = data.draw(yards)
    snapshot = empty
    for pod in pods[1:]:
        if (chosen := decide(pod, snapshot).node) is not None:
            snapshot = snapshot.assume(pod, chosen)
    asked = pods[0]
    found = explain(asked, snapshot)
    assert found.never is (decide(asked, empty.at_its_best()).node is None)
    assert (could_ever_fit(asked, snapshot) is None) is not found.never
    assert (found.blocker is None) is (decide(asked, snapshot).node is not None)
    assert {report.name for report in found.nodes} == set(snapshot.nodes)
    for plan in found.plans:
        assert plan.works(asked, snapshot) if not found.never else plan.works(asked, snapshot.at_its_best())
    assert found.headline
    assert found.lines()
    assert json.dumps(found.to_json())


def test_in_short_the_node_with_the_most(snapshot_of: SnapshotOf) -> None:
    snapshot = snapshot_of(node("a", 8, held(6, "t")), node("b", 8, held(5, "u")))
    assert explain(request(4), snapshot).short() == "needs 4 GPUs, 3 free on b"
    assert explain(request(9), snapshot).short() == explain(request(9), snapshot).headline
    assert explain(request(2), snapshot).short() == "fits on node a now"


@settings(max_examples=100)
@given(data=st.data())
def test_what_only_waits_for_others_can_be_had_by_stopping_them(data: st.DataObject, yards: Yards) -> None:
    snapshot, pods = data.draw(yards)
    asked = pods[0]
    if decide(asked, snapshot).node is None:
        return
    for pod in pods[1:]:
        if (chosen := decide(pod, snapshot).node) is not None:
            snapshot = snapshot.assume(pod, chosen)
    found = explain(asked, snapshot)
    assert found.blocker is None or any(plan.works(asked, snapshot) for plan in found.plans)


def test_a_node_that_refuses_a_pod_without_requests_is_not_said_to_take_it(snapshot_of: SnapshotOf) -> None:
    bare = request(resources={"pods": 1})
    explanation = explain(bare, snapshot_of(node("a", taints=TAINTS)))
    assert explanation.nodes[0].lines() == [
        "node a: has the taint dedicated=ml:NoSchedule, which isn't tolerated"
    ]
    assert explain(bare, snapshot_of(node("a"))).nodes[0].lines() == [
        "node a: takes it: nothing is asked for"
    ]


def test_replicas_of_one_service_are_not_stopped_for_one_another(snapshot_of: SnapshotOf) -> None:
    owner = ("deployment", "serve")
    asked, other = request(8, run="serve", owner=owner), replace(held(8, "serve"), owner=owner)
    assert other.holder == ("service", "serve")
    found = explain(asked, snapshot_of(node("a", 8, other), node("b", 8, held(8, "t"))))
    assert "        of these, 8 GPUs are for other replicas of it" in found.lines()
    assert [str(plan) for plan in found.plans if "serve" in str(plan)] == []
    elsewhere = replace(other, key=ObjectKey("m", "serve"))
    assert other.belongs_with(replace(other)) and not other.belongs_with(elsewhere)
