from __future__ import annotations

from collections.abc import Callable

import pytest

from gpuyard.explain.changes import find_plans
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
