"""Runs survive what a cluster does to their pods: drains, preemption, restarts of the agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.objects import wait_for_gpus
from tests.cluster.shell import ClusterShell
from tests.waiting import until

from .conftest import GPUS

RUNS = 20
#: For each restart: the window in which a kubelet counts GPUs whose plugin is gone is about a second.
AT_ONCE = 5


@contextmanager
def drained(cluster: Cluster, node: str) -> Iterator[None]:
    """The node takes no pods, and has none but those of DaemonSets, while the block lasts."""
    try:
        cluster.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s"
        )
        yield
    finally:
        cluster.kubectl("uncordon", node)


def render(target: ClusterShell, names: list[str], *words: str) -> list[Any]:
    """The objects of a run of these words under each name."""
    done = target.call("run", "--dry-run", "-o", "json", "-n", "name-to-be", *words)
    assert done.code == 0, done.err
    return [json.loads(done.out.replace("name-to-be", name)) for name in names]


def create(target: ClusterShell, rendered: object) -> None:
    target.cluster.kubectl("create", f"-n={target.namespace}", "-f", "-", stdin=rendered)


def successes(target: ClusterShell, names: list[str]) -> list[str]:
    """Those of the runs that succeeded, once all have ended."""

    def all_ended() -> dict[str, str] | None:
        states = {run["name"]: run["state"] for run in target.json("ps", "--all")}
        return states if all(states[name] in ("succeeded", "failed", "stopped") for name in names) else None

    states = until(all_ended, "all have ended", timeout_s=300)
    assert states is not None
    return [name for name in names if states[name] == "succeeded"]


def node_of(target: ClusterShell, name: str) -> str:
    [node] = target.json("show", name)["nodes"]
    return str(node)


def test_a_drained_run_is_made_again_elsewhere(target: ClusterShell) -> None:
    command = target.start(
        "run", "-n", "moved", "--gpus", "1", "--", "sh", "-c", f"echo begin; {target.waiting}"
    )
    command.wait_for("begin")
    node = node_of(target, "moved")
    with drained(target.cluster, node):
        between = until(lambda: target.json("ps")[0], "it is told of", lambda run: run["reason"] == "Drained")
        assert between["state"] in ("running", "pending")
        until(lambda: command.out.count("begin") == 2, "the next attempt prints")
        assert node_of(target, "moved") != node
        first = target.json("show", "moved")["attempts"][0]
        assert (first["reason"], first["node"]) == ("Drained", node)
        explained = target.ok("explain", "moved")
        assert f"before that, an attempt was drained: its node {node} takes no new pods" in explained
        late = target.start("logs", "-f", "moved")
        late.wait_for("begin")
        target.open_gate("moved")
        result = command.finish()
        assert result.code == 0, result.err
        assert "── drained here: it was evicted through the API" in result.err
        assert f"drained: its node {node} takes no new pods" in late.finish().err


def test_a_preempted_run_says_by_whom_and_is_made_again(target: ClusterShell) -> None:
    nodes = len(target.cluster.nodes)
    for number in range(1, nodes):
        target.background(f"filler-{number}", "--gpus", str(GPUS), "--priority", "gpuyard-high",
                          "--", "sh", "-c", target.waiting)  # fmt: skip
    command = target.start("run", "-n", "low", "--gpus", str(GPUS), "--priority", "gpuyard-low",
                           "--", "sh", "-c", f"echo begin; {target.waiting}")  # fmt: skip
    command.wait_for("begin")
    urgent = target.start("run", "-n", "urgent", "--gpus", str(GPUS), "--priority", "gpuyard-high",
                          "--", "sh", "-c", f"echo now; {target.waiting}")  # fmt: skip
    urgent.wait_for("now")
    waits = until(lambda: target.json("show", "low"), "it waits again", lambda run: len(run["attempts"]) == 2)
    assert waits["state"] == "pending"
    by_whom = f"(pod {target.namespace}/urgent-"
    assert waits["attempts"][0]["reason"] == "Preempted"
    assert by_whom in waits["attempts"][0]["message"]
    assert any(event["reason"] == "Preempted" for event in waits["events"])
    assert f"before that, an attempt was preempted: a pod of higher priority took its place {by_whom}" in (
        target.ok("explain", "low")
    )
    target.open_gate("urgent")
    assert urgent.finish().code == 0
    until(lambda: command.out.count("begin") == 2, "the next attempt prints")
    target.open_gate("low")
    result = command.finish()
    assert (result.code, result.out) == (0, "begin\nbegin\n"), result.err
    assert f"── preempted here: a pod of higher priority took its place {by_whom}" in result.err


def test_a_refused_run_is_made_again_and_says_so(target: ClusterShell) -> None:
    """Put on its node past the scheduler, since nothing else is refused for sure."""
    node = sorted(target.cluster.nodes)[0]
    [run] = render(target, ["refused"], "--cpus", "1000", "--", "true")
    run["spec"]["template"]["spec"]["nodeName"] = node
    create(target, run)
    follower = target.start("logs", "-f", "refused")
    twice = until(lambda: target.json("show", "refused"), "it is made again, and refused again",
                  lambda found: len(found["attempts"]) == 2 and found["reason"] == "BackOff")  # fmt: skip
    assert twice["state"] == "pending"
    assert {attempt["reason"] for attempt in twice["attempts"]} == {"StartError"}
    explained = target.ok("explain", "refused")
    assert f"node {node} refused the pod" in explained
    assert "wait: it is made again by itself" in explained
    follower.wait_for("── refused by its node here: Pod was rejected: Node didn't have enough resource: cpu")
    target.ok("stop", "refused")
    follower.finish()
    assert target.json("ps", "--all")[0]["state"] == "stopped"


def test_runs_made_while_the_agent_restarts_succeed(target: ClusterShell) -> None:
    cluster = target.cluster
    node = sorted(cluster.nodes)[0]
    here = ("--gpus", "1", "--node-selector", f"kubernetes.io/hostname={node}", "--", "true")
    agent = ("--selector=app.kubernetes.io/component=agent", f"--field-selector=spec.nodeName={node}")
    names = [f"made-{number}" for number in range(RUNS)]
    for start in range(0, RUNS, AT_ONCE):
        some = names[start : start + AT_ONCE]
        runs = render(target, some, *here)
        wait_for_gpus(cluster, node, GPUS, GPUS)
        cluster.kubectl("delete", "pod", "-n=gpuyard-system", *agent, "--wait=false")
        # One by one, so that some fall into the window.
        for run in runs:
            create(target, run)
        assert successes(target, some) == some


def test_runs_that_are_drained_succeed(target: ClusterShell) -> None:
    names = [f"drained-{number}" for number in range(RUNS)]
    runs = render(target, names, "--gpus", "1", "--", "sh", "-c", "sleep 20")
    # All at once, so that on a busy machine none ends before the last one runs.
    create(
        target, {"apiVersion": "v1", "kind": "List", "items": [part for run in runs for part in run["items"]]}
    )

    def running() -> int:
        return sum(run["state"] == "running" for run in target.json("ps"))

    until(running, "they run", lambda count: count == 2 * GPUS, timeout_s=120)
    with drained(target.cluster, sorted(target.cluster.nodes)[0]):
        pass
    assert successes(target, names) == names
