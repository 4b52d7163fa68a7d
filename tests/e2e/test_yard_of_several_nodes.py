"""A yard of two nodes on one machine, each with GPUs of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gpuyard.local.kubelet.machine import node_names
from tests.waiting import until

from .conftest import Yard, alive, kill, make_yard

H100, A100 = node_names(platform.node(), 2)
SIMULATE = "H100:8,A100:4"


@pytest.fixture(scope="module")
def shared_two() -> Iterator[Yard]:
    with make_yard() as yard:
        start(yard)
        yield yard


@pytest.fixture
def two(shared_two: Yard) -> Iterator[Yard]:
    """Two nodes, H100:8 and A100:4, without runs; a silent one counts as unreachable within seconds."""
    yield shared_two
    shared_two.remove_runs()


def start(yard: Yard, simulate: str = SIMULATE) -> None:
    """Starts its daemon with short periods, which `up` has no options for."""
    line = f"{sys.executable} -m gpuyard.local.daemon --simulate {simulate}"
    line += " --heartbeat-s 0.5 --node-grace-s 4"
    log = yard.home / "daemon.log"
    subprocess.run(["sh", "-c", f"exec {line} </dev/null >>{log} 2>&1 &"], env=yard.environ, check=True)
    until(lambda: yard.call("status").code == 0, "the yard is ready")


def node_of(yard: Yard, name: str) -> str:
    """Of the run's first pod."""
    [pod, *_] = pods_of(yard, name)
    return str(pod["spec"].get("nodeName", ""))


def pods_of(yard: Yard, name: str) -> list[Any]:
    path = f"/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run={name}"
    found: list[Any] = yard.get(path)["items"]
    return found


def free_gpus(yard: Yard) -> dict[str, int]:
    return {node["name"]: node["gpus_free"] for node in yard.json("nodes")}


def test_each_node_has_its_own_gpus_and_shares_the_machine(two: Yard) -> None:
    status = two.status()
    assert [(node["name"], node["gpus"]["model"], node["gpus"]["capacity"]) for node in status["nodes"]] == [
        (H100, "H100", 8),
        (A100, "A100-40GB", 4),
    ]
    assert status["gpus"]["capacity"] == 12
    agents = [node["agent_pid"] for node in status["nodes"]]
    assert len(set(agents)) == 2 and all(map(alive, agents))
    nodes = two.get("/api/v1/nodes")["items"]
    cpus = [node["status"]["capacity"]["cpu"] for node in nodes]
    assert len(set(cpus)) == 1
    ids = [node["metadata"]["labels"]["nvidia.com/gpu.count"] for node in nodes]
    assert ids == ["8", "4"]
    said = two.ok("up", "--simulate", "H100:8", "--simulate", "A100:4")
    assert f"nodes {H100}, {A100}" in said and f"{A100}: 4 × A100-40GB (simulated)" in said


def test_runs_of_both_nodes_survive_the_daemon(two: Yard) -> None:
    for name, gpus in (("a", "H100:8"), ("b", "A100:4")):
        two.background(name, "--gpus", gpus, "--", "sh", "-c", f"echo in {name}; {two.waiting}; echo out")
        two.wait_for_line(name, f"in {name}")
    assert (node_of(two, "a"), node_of(two, "b")) == (H100, A100)
    uids = [pod["metadata"]["uid"] for name in "ab" for pod in pods_of(two, name)]
    two.ok("run", "-d", "--wait", "-n", "late", "--gpus", "1", "--", "true")
    explained = two.ok("explain", "late")
    assert f"node {H100}: 8 GPUs, 8 allotted" in explained and f"node {A100}: 4 GPUs, 4 allotted" in explained
    kill(int(two.status()["daemon_pid"]))
    start(two)
    assert [pod["metadata"]["uid"] for name in "ab" for pod in pods_of(two, name)] == uids
    assert free_gpus(two) == {H100: 0, A100: 0}
    two.open_gate("a")
    for name in ("a", "b", "late"):
        two.wait_for(name, "succeeded")
    assert (two.ok("logs", "a"), two.ok("logs", "b")) == ("in a\nout\n", "in b\nout\n")
    assert free_gpus(two) == {H100: 8, A100: 4}
