"""Nodes that lose their power, are drained or are there no more, under runs of one pod and of several."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

import pytest

from gpuyard.local.kubelet.machine import node_names
from tests.waiting import until

from .conftest import Yard, make_yard
from .test_metrics import scrape
from .test_yard_of_several_nodes import free_gpus, pods_of, start

NODES = node_names(platform.node(), 3)

#: Each rank begins where its last attempt was, and waits for the gate.
RESUMES = """
import os, time
from pathlib import Path
kept = Path("kept-" + os.environ["PET_NODE_RANK"])
step = int(kept.read_text()) if kept.exists() else 0
kept.write_text(str(step + 1))
print("begins at", step, flush=True)
while not Path("go").exists(): time.sleep(0.05)
print("done", flush=True)
"""
GO = ("--", sys.executable, "resumes.py")


@pytest.fixture(scope="module")
def shared_three() -> Iterator[Yard]:
    with make_yard() as yard:
        start(yard, "H100:4,H100:4,H100:4")
        yield yard


@pytest.fixture
def three(shared_three: Yard) -> Iterator[Yard]:
    """Three nodes of 4 GPUs each, without runs."""
    yield shared_three
    for node in NODES:
        shared_three.ok("node", "fault", node, "--up")
    shared_three.remove_runs()
    until(lambda: free_gpus(shared_three), "all is free", lambda free: free == dict.fromkeys(NODES, 4))


def nodes_of(yard: Yard, name: str) -> dict[int, str]:
    """Where each rank's pod that isn't over is."""
    return {
        int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]): pod["spec"][
            "nodeName"
        ]
        for pod in pods_of(yard, name)
        if pod["status"]["phase"] == "Running"
    }


def begun(yard: Yard, name: str, count: int, step: int) -> dict[int, str]:
    """Waits until all ranks say that they begin at this step; where they are."""
    until(
        lambda: yard.ok("logs", name).count(f"begins at {step}\n"),
        f"{count} ranks begin at {step}",
        lambda found: found == count,
    )
    return until(lambda: nodes_of(yard, name), "all run", lambda found: len(found) == count)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_gang_whose_node_dies_goes_on_elsewhere_from_its_checkpoint(three: Yard, rank: int) -> None:
    three.script("resumes.py", RESUMES)
    three.ok("run", "-d", "-n", "gang", "--nodes", "2", "--gpus", "4", *GO)
    lost = begun(three, "gang", 2, 0)[rank]
    said = three.ok("node", "fault", lost, "--down")
    assert said == f"node {lost} has lost its power (simulated)\n"
    now = begun(three, "gang", 2, 1)
    assert set(now.values()) == set(NODES) - {lost}
    (three.work / "go").touch()
    three.wait_for("gang", "succeeded")
    assert "Node is not ready" in three.ok("show", "gang")
    assert {free_gpus(three)[node] for node in set(NODES) - {lost}} == {4}


def test_a_gang_that_no_longer_fits_holds_nothing_until_it_does(three: Yard) -> None:
    three.script("resumes.py", RESUMES)
    three.ok("run", "-d", "-n", "all", "--nodes", "3", "--gpus", "4", *GO)
    lost = begun(three, "all", 3, 0)[1]
    three.ok("node", "fault", lost, "--down")
    until(lambda: three.state("all")["reason"], "it waits", lambda reason: reason == "Unschedulable")
    assert free_gpus(three) == {node: 0 if node == lost else 4 for node in NODES}
    waiting = [pod for pod in pods_of(three, "all") if pod["status"]["phase"] == "Pending"]
    assert waiting and not any(pod["spec"].get("nodeName") for pod in waiting)
    assert "not ready" in three.ok("nodes")
    assert three.ok("node", "fault", lost, "--up") == f"node {lost} has power again (simulated)\n"
    begun(three, "all", 3, 1)
    (three.work / "go").touch()
    three.wait_for("all", "succeeded")


def test_faults_and_splits_of_a_node_that_is_not_the_first(three: Yard) -> None:
    assert f"name one of {', '.join(NODES)}" in three.refused(2, "node", "fault", "--gpu", "0", "--xid", "79")
    assert "this yard has no node 'nowhere'" in three.refused(2, "node", "fault", "nowhere", "--down")
    for arguments in (("--gpu", "1"), ("--down", "--gpu", "1"), ()):
        assert "a fault is a GPU's or a node's" in three.refused(2, "node", "fault", NODES[1], *arguments)
    said = three.ok("node", "fault", NODES[1], "--gpu", "3", "--xid", "79")
    assert said.startswith(f"GPU 3 of node {NODES[1]} is unhealthy: XID 79")
    faulty = {node["name"]: len(node["faults"]) for node in three.json("nodes")}
    assert faulty == {NODES[0]: 0, NODES[1]: 1, NODES[2]: 0}
    assert three.call("doctor").code == 0
    three.ok("node", "fault", NODES[1], "--gpu", "3", "--xid", "recovered")
    split = three.ok("node", "mig", "plan", "--node", NODES[2], "0: all 1g.10gb")
    assert "1g.10gb" in split
    assert f"name one of {', '.join(NODES)}" in three.refused(2, "node", "mig", "plan", "0: whole")


def test_a_node_is_drained_and_takes_pods_again(three: Yard) -> None:
    three.background("moved", "--gpus", "4", "--", "sleep", "600")
    [pod] = pods_of(three, "moved")
    node = pod["spec"]["nodeName"]
    three.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data")
    until(
        lambda: [other["spec"].get("nodeName") for other in pods_of(three, "moved")],
        "it is on another node",
        lambda found: len(found) == 1 and found[0] not in (None, node),
    )
    three.kubectl("uncordon", node)
    three.ok("run", "-n", "both", "--nodes", "2", "--gpus", "4", "--", "true")


def test_metrics_name_each_node_and_no_sample_twice(three: Yard) -> None:
    token = (three.home / "token").read_text().strip()

    def read() -> list[str]:
        lines = scrape(three, token=token).splitlines()
        return [line.rpartition(" ")[0] for line in lines if line[:1] not in ("", "#")]

    def known(samples: list[str]) -> set[str]:
        gpus = [sample for sample in samples if sample.startswith("gpuyard_gpu_info{")]
        return {name for name in NODES for sample in gpus if f'"{name}"' in sample}

    samples = until(read, "all exporters answer", lambda found: known(found) == set(NODES))
    assert len(samples) == len(set(samples))
