from __future__ import annotations

from collections.abc import Callable

import pytest

from gpuyard.explain.plans import find_plans
from gpuyard.gpus.faults import GpuFault
from gpuyard.kube.objects import ObjectKey
from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.requests import NodeTerm, PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot

GPU = "nvidia.com/gpu"
MODEL = "gpuyard.io/gpu-model"
SnapshotOf = Callable[..., Snapshot]


def request(gpus: int = 0, **fields: object) -> PodRequest:
    resources = {GPU: gpus, "cpu": 1000, "pods": 1} if gpus else {"cpu": 1000, "pods": 1}
    return PodRequest(ObjectKey("d", "p"), **{"resources": resources, **fields})  # type: ignore[arg-type]


def held(gpus: int, run: str, priority: int = 0) -> PodRequest:
    return PodRequest(ObjectKey("d", run), resources={GPU: gpus}, run=run, priority=priority)


def node(name: str = "a", gpus: int = 8, *pods: PodRequest, **fields: object) -> NodeState:
    allocatable = {GPU: gpus, "cpu": 16000, "memory": 2**36, "pods": 110}
    state = NodeState(name, **{"allocatable": allocatable, **fields})  # type: ignore[arg-type]
    return state.with_pods(pods)


def model(name: str) -> Requirement:
    return Requirement(MODEL, "In", (name,))


ZONE = Requirement("zone", "In", ("z",))
TAINTS = ({"key": "dedicated", "value": "ml", "effect": "NoSchedule"},)


@pytest.mark.parametrize(
    ("asked", "nodes", "plans"),
    [
        pytest.param(
            request(4),
            [node("a", 8, held(6, "t"))],
            ["ask for 2 GPUs instead of 4 (node a)", "stop run t (node a)"],
            id="less, or another's",
        ),
        pytest.param(
            request(4),
            [node("a", 8, PodRequest(ObjectKey("ml", "x"), resources={GPU: 6}, run="x"))],
            ["ask for 2 GPUs instead of 4 (node a)", "stop run ml/x (node a)"],
            id="another namespace's",
        ),
        pytest.param(
            request(4, selector=(Requirement("hardware-typ", "In", ("nvidia-gpus",)),)),
            [node("a", labels={"hardware-type": "nvidia-gpu", "hardware": "x"})],
            ["select hardware-type=nvidia-gpu instead of hardware-typ=nvidia-gpus (node a)"],
            id="a label that is mistyped",
        ),
        pytest.param(
            request(4, selector=(Requirement("host", "In", ("node-b",)),)),
            [node("a", labels={"host": "node-a"})],
            ["drop the node selector host=node-b (node a)"],
            id="a label that only looks alike",
        ),
        pytest.param(
            request(4),
            [node("a", taints=({"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"},))],
            [],
            id="what the control plane says of a node isn't tolerated away",
        ),
        pytest.param(
            request(4),
            [node("a", 8, held(6, "t")), node("b", 8, held(5, "u"))],
            ["ask for 3 GPUs instead of 4 (node b)", "stop run t (node a)"],
            id="the least to give up",
        ),
        pytest.param(
            request(4),
            [node("a", 8, held(8, "t", priority=9)), node("b", 8, held(8, "u"))],
            ["stop run u (node b)"],
            id="from the less important",
        ),
        pytest.param(
            request(8),
            [node("a", 8, held(4, "t"), held(4, "u"))],
            ["stop run t and run u (node a)"],
            id="from several",
        ),
        pytest.param(
            request(2, resources={"cpu": 20_050, "memory": 2**37, "pods": 1}),
            [node("a")],
            ["ask for 16 CPUs instead of 20050m and ask for 64Gi memory instead of 128Gi (node a)"],
            id="several resources",
        ),
        pytest.param(
            request(2, selector=(model("A100"),)),
            [node("a", labels={MODEL: "H100"})],
            ["use H100 instead of A100 (node a)"],
            id="another model by selector",
        ),
        pytest.param(
            request(2, affinity=(NodeTerm((model("A100"), ZONE)),)),
            [node("a", labels={MODEL: "H100", "zone": "z"})],
            ["use H100 instead of A100 (node a)"],
            id="another model by affinity",
        ),
        pytest.param(
            request(2, affinity=(NodeTerm((model("A100"),)),)),
            [node("a")],
            ["use any GPU model instead of A100 (node a)"],
            id="a model that isn't known",
        ),
        pytest.param(
            request(2),
            [node("a", taints=TAINTS)],
            ["tolerate the taint dedicated=ml:NoSchedule with --toleration dedicated (node a)"],
            id="taint",
        ),
        pytest.param(
            request(2, selector=(ZONE,)),
            [node("a")],
            ["drop the node selector zone=z (node a)"],
            id="selector",
        ),
        pytest.param(
            request(2, affinity=(NodeTerm((ZONE, model("H100"))),)),
            [node("a", labels={MODEL: "H100"})],
            ["drop the required node affinity (node a)"],
            id="affinity, the model stays",
        ),
        pytest.param(
            request(2, selector=(ZONE, model("A100"))),
            [node("a", labels={MODEL: "H100"}, taints=TAINTS)],
            [
                "tolerate the taint dedicated=ml:NoSchedule with --toleration dedicated, drop the node "
                "selector zone=z and use H100 instead of A100 (node a)"
            ],
            id="all at once",
        ),
        pytest.param(
            request(2),
            [node("a", taints=TAINTS), node("b", 8, held(8, "t"), taints=TAINTS), node("c", 8, held(7, "u"))],
            [
                "tolerate the taint dedicated=ml:NoSchedule with --toleration dedicated (node a)",
                "ask for 1 GPU instead of 2 (node c)",
                "stop run u (node c)",
            ],
            id="one of each sort",
        ),
        pytest.param(request(2), [node("a", unschedulable=True), node("b", ready=False)], [], id="no node"),
        pytest.param(request(1), [node("a", 0)], [], id="no GPUs"),
    ],
)
def test_plans(asked: PodRequest, nodes: list[NodeState], plans: list[str], snapshot_of: SnapshotOf) -> None:
    snapshot = snapshot_of(*nodes)
    found = find_plans(asked, snapshot)
    assert [str(plan) for plan in found] == plans
    assert all(plan.works(asked, snapshot) for plan in found)


def test_waits_for_what_ends_anyway(snapshot_of: SnapshotOf) -> None:
    ending = PodRequest(ObjectKey("d", "web"), resources={GPU: 8}, ending=True)
    (plan,) = find_plans(request(4), snapshot_of(node("a", 8, ending)))
    assert str(plan) == "wait for pod d/web to end (node a)"


def test_a_run_that_is_stopped_gives_up_all_its_nodes(snapshot_of: SnapshotOf) -> None:
    snapshot = snapshot_of(node("a", 8, held(8, "t")), node("b", 8, held(4, "t"), held(4, "u", priority=3)))
    asked = request(8)
    (plan,) = find_plans(asked, snapshot)
    _, after = plan.apply(asked, snapshot)
    assert [state.free(GPU) for state in after.nodes.values()] == [8, 4]


def test_as_json(snapshot_of: SnapshotOf) -> None:
    asked = request(4, selector=(ZONE,))
    plans = find_plans(asked, snapshot_of(node("a", 8, held(6, "t"))))
    assert [plan.to_json() for plan in plans] == [
        {
            "node": "a",
            "changes": [
                {"kind": "drop_selector", "labels": {"zone": "z"}},
                {"kind": "ask_for", "resource": GPU, "amount": "2"},
            ],
            "text": "drop the node selector zone=z and ask for 2 GPUs instead of 4 (node a)",
        },
        {
            "node": "a",
            "changes": [
                {"kind": "drop_selector", "labels": {"zone": "z"}},
                {
                    "kind": "release",
                    "holders": [
                        {
                            "namespace": "d",
                            "name": "t",
                            "kind": "run",
                            "holds": {GPU: "6"},
                            "pods": 1,
                            "priority": 0,
                            "since": "",
                            "ending": False,
                        }
                    ],
                },
            ],
            "text": "drop the node selector zone=z and stop run t (node a)",
        },
    ]


def sick(*pods: PodRequest, faults: int = 1) -> NodeState:
    """A node of eight GPUs of which some are unhealthy."""
    known = tuple(GpuFault(7 - n, f"GPU-{7 - n}", "XID 79", "") for n in range(faults))
    state = node("a", 8 - faults, capacity={GPU: 8, "cpu": 16000, "pods": 110}, faults=known)
    return state.with_pods(pods)


@pytest.mark.parametrize(
    ("asked", "state", "plans"),
    [
        pytest.param(request(8), sick(), ["ask for 7 GPUs instead of 8", "mend GPU 7"], id="alone"),
        pytest.param(
            request(8),
            sick(held(4, "t"), held(3, "u")),
            ["stop run t and run u, and mend GPU 7"],
            id="held as well",
        ),
        pytest.param(
            request(8),
            sick(held(4, "t"), held(4, "u")),
            ["stop run t and run u, and mend GPU 7"],
            id="held, the unhealthy one, too",
        ),
        pytest.param(request(3), sick(held(7, "t")), ["stop run t"], id="it needs no mending"),
        pytest.param(
            request(2),
            sick(held(6, "t")),
            ["ask for 1 GPU instead of 2", "stop run t", "mend GPU 7"],
            id="either",
        ),
        pytest.param(
            request(7),
            sick(faults=3),
            ["ask for 5 GPUs instead of 7", "mend GPUs 7 and 6"],
            id="no more than needed",
        ),
    ],
)
def test_mending_is_told_where_it_was_tried(
    asked: PodRequest, state: NodeState, plans: list[str], snapshot_of: SnapshotOf
) -> None:
    snapshot = snapshot_of(state)
    found = find_plans(asked, snapshot)
    assert [str(plan) for plan in found] == [f"{plan} (node a)" for plan in plans]
    assert all(plan.works(asked, snapshot) for plan in found)


def pending(name: str, gpus: int, *, priority: int = 0, **fields: object) -> PodRequest:
    resources = {GPU: gpus, "cpu": 1000, "pods": 1}
    return PodRequest(ObjectKey("d", name), resources=resources, run=name, priority=priority, **fields)  # type: ignore[arg-type]


X1 = pending("x1", 8)


@pytest.mark.parametrize(
    ("queue", "plans", "ahead"),
    [
        pytest.param([X1], ["stop run x0"], [], id="nobody else waits"),
        pytest.param([X1, pending("x2", 8)], ["stop run x0"], [], id="only a younger one"),
        pytest.param([pending("x2", 8, priority=9), X1], [], ["run x2"], id="a more important one"),
        pytest.param([pending("x2", 1), X1], [], ["run x2"], id="one that leaves too little"),
        pytest.param([pending("x2", 16), X1], ["stop run x0"], [], id="one that wouldn't fit either"),
        pytest.param([pending("x2", 8, selector=(ZONE,)), X1], ["stop run x0"], [], id="one for other nodes"),
        pytest.param(
            [pending("x3", 4), pending("x2", 4), pending("x4", 4), X1], [], ["run x3", "run x2"], id="several"
        ),
        pytest.param([pending("x1-0", 8), X1], [], ["run x1-0"], id="an older one"),
    ],
)
def test_what_others_would_take_is_not_offered(
    queue: list[PodRequest], plans: list[str], ahead: list[str], snapshot_of: SnapshotOf
) -> None:
    snapshot = snapshot_of(node("a", 8, held(8, "x0")))
    assert [str(plan) for plan in find_plans(X1, snapshot, queue)] == [f"{plan} (node a)" for plan in plans]
    (stop,) = find_plans(X1, snapshot)
    assert stop.overtakers(X1, snapshot, queue) == ahead


def test_pods_of_the_same_run_are_not_ahead_of_it(snapshot_of: SnapshotOf) -> None:
    snapshot = snapshot_of(node("a", 8, held(8, "x0")))
    sibling = PodRequest(ObjectKey("d", "x1-sibling"), resources=X1.resources, run="x1")
    assert find_plans(X1, snapshot, [sibling, X1])


def test_who_submits_again_is_behind_all_that_wait(snapshot_of: SnapshotOf) -> None:
    snapshot = snapshot_of(node("a", 8, held(8, "x0"), taints=TAINTS))
    tolerant = pending("x2", 8, tolerations=({"operator": "Exists"},))
    assert find_plans(X1, snapshot, [X1])
    assert find_plans(X1, snapshot, [X1, tolerant]) == ()
    assert find_plans(X1, snapshot, [X1, pending("x3", 8)]), "that one wouldn't go there"


def test_another_node_is_offered_where_one_goes_to_others(snapshot_of: SnapshotOf) -> None:
    snapshot = snapshot_of(
        node("a", 8, held(8, "t"), labels={"zone": "z"}), node("b", 8, held(8, "u", priority=9))
    )
    first = pending("x2", 8, selector=(ZONE,))
    assert [str(plan) for plan in find_plans(X1, snapshot)] == ["stop run t (node a)"]
    assert [str(plan) for plan in find_plans(X1, snapshot, [first, X1])] == ["stop run u (node b)"]
