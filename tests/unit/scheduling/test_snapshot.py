from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import NodeState, Snapshot, holds

GPU = "nvidia.com/gpu"


def node(name: str, **status: Any) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True"}]
    return {"metadata": {"name": name}, "status": {"conditions": ready, **status}}


def pod(name: str, node_name: str = "", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    containers = [{"resources": {"requests": {GPU: "2", "cpu": "500m"}}}]
    spec = {"containers": containers, **({"nodeName": node_name} if node_name else {})}
    return {
        "metadata": {"namespace": "d", "name": name, **metadata},
        "spec": spec,
        "status": {"phase": phase},
    }


def test_reads_a_node() -> None:
    taint = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}
    manifest = node("n1", allocatable={"cpu": "4", GPU: "7"}, capacity={"cpu": "4", GPU: "8"})
    manifest["metadata"]["labels"] = {"disk": "ssd"}
    manifest["spec"] = {"taints": [taint], "unschedulable": True}
    assert NodeState.of(manifest) == NodeState(
        name="n1",
        allocatable={"cpu": 4000, GPU: 7},
        capacity={"cpu": 4000, GPU: 8},
        labels={"disk": "ssd"},
        taints=(taint,),
        ready=True,
        unschedulable=True,
    )


@pytest.mark.parametrize("conditions", [None, [], [{"type": "Ready", "status": "Unknown"}]])
def test_a_node_that_does_not_say_so_is_not_ready(conditions: Any) -> None:
    assert not NodeState.of(node("n1", conditions=conditions)).ready


def test_counts_the_pods_that_are_bound_and_not_finished() -> None:
    pods = [
        pod("running", "n1"),
        pod("starting", "n1", "Pending"),
        pod("ending", "n1", deletionTimestamp="2026-01-31T12:00:00Z"),
        pod("pending", phase="Pending"),
        pod("done", "n1", "Succeeded"),
        pod("dead", "n1", "Failed"),
        pod("elsewhere", "n2"),
        pod("nowhere", "gone"),
    ]
    snapshot = Snapshot.of([node("n2", allocatable={GPU: "8"}), node("n1", allocatable={GPU: "8"})], pods)
    assert list(snapshot.nodes) == ["n1", "n2"]
    assert snapshot.nodes["n1"].allotted == {GPU: 6, "cpu": 1500, "pods": 3}
    assert (snapshot.nodes["n1"].free(GPU), snapshot.nodes["n2"].free(GPU)) == (2, 6)


def test_a_pod_without_status_holds_its_node() -> None:
    assert holds({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}})


def test_assuming_makes_a_new_snapshot() -> None:
    before = Snapshot.build([NodeState("n1", {GPU: 8})], [])
    after = before.assume(PodRequest(ObjectKey("d", "p"), resources={GPU: 3}), "n1")
    assert (before.nodes["n1"].free(GPU), after.nodes["n1"].free(GPU)) == (8, 5)
    assert after.nodes["n1"].pods[0].node_name == "n1"


def test_takes_pods_away() -> None:
    pods = [PodRequest(ObjectKey("d", name), resources={GPU: 3}, node_name="n1") for name in "ab"]
    snapshot = Snapshot.build([NodeState("n1", {GPU: 8})], pods)
    left = snapshot.without_pods(lambda pod: pod.key.name == "a")
    assert left.nodes["n1"].allotted == {GPU: 3}
    assert left.nodes["n1"].pods == (pods[1],)


def test_at_its_best_a_node_is_empty_ready_and_healthy() -> None:
    own = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}
    passing = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}
    state = NodeState(
        "n1",
        allocatable={"cpu": 3000, "example.com/sick": 1},
        capacity={"cpu": 4000, GPU: 8, "example.com/sick": 2},
        taints=(own, passing),
        ready=False,
        unschedulable=True,
    ).with_pods([PodRequest(ObjectKey("d", "p"), resources={GPU: 3})])
    assert state.at_its_best() == replace(
        state,
        # What the node keeps for itself stays its own.
        allocatable={"cpu": 3000, GPU: 8, "example.com/sick": 2},
        taints=(own,),
        ready=True,
        unschedulable=False,
        pods=(),
        allotted={},
    )
