"""`ps`, `show`, `status` and `nodes`: what machines read has documented keys, and people get words."""

from __future__ import annotations

import re

from gpuyard import __version__

from .conftest import Yard
from .shell import NOWHERE, Shell

RUN_KEYS = [
    *("name", "kind", "state", "reason", "exit_code", "gpus", "gpu_resources", "simulated", "nodes"),
    *("priority", "submitted_at", "started_at", "finished_at", "tasks", "pods"),
]  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def test_ps_for_machines(target: Shell) -> None:
    assert target.json("ps") == []
    target.ok("run", "-n", "ended", "--gpus", "2", "--priority", "system-node-critical", "--", "true")
    target.background("alive", "--", "sleep", "600")
    nodes = [node["name"] for node in target.json("nodes")]
    found = {run["name"]: run for run in target.json("ps")}
    ended, living = found["ended"], found["alive"]
    assert list(ended) == list(living) == RUN_KEYS
    for moment in ("submitted_at", "started_at", "finished_at"):
        assert TIME.fullmatch(ended.pop(moment))
    (node,) = ended.pop("nodes")
    assert node in nodes
    assert ended == {
        "name": "ended",
        "kind": "Job",
        "state": "succeeded",
        "reason": "Completed",
        "exit_code": 0,
        "gpus": 2,
        "gpu_resources": {"nvidia.com/gpu": 2},
        "simulated": True,
        "tasks": None,
        "pods": None,
        "priority": "system-node-critical",
    }
    assert living["finished_at"] is None
    assert (living["state"], living["exit_code"], living["gpus"], living["simulated"]) == (
        "running",
        None,
        0,
        False,
    )


def test_ps_for_people(target: Shell) -> None:
    result = target.call("ps")
    assert (result.code, result.out) == (0, "")
    assert "No runs yet" in result.err
    target.call("run", "-n", "ended", "--gpus", "2", "--", "sh", "-c", "exit 3")
    header, row = target.ok("ps").splitlines()
    assert header.split() == ["NAME", "STATE", "EXIT", "GPUS", "AGE", "TOOK", "REASON"]
    assert re.match(r"ended +failed +3 +2 \(simulated\) .*ExitCode", row)


REST = ("resources", "gpu_use", "attempts", "events", "diagnoses")


def test_show(target: Shell) -> None:
    target.ok("run", "-n", "shown", "--gpus", "2", "--memory", "1Gi", "--", "sh", "-c", "echo hi there")
    found = target.json("show", "shown")
    assert list(found) == [*RUN_KEYS, "command", "image", "python", *REST]
    assert (found["image"] is None) == target.is_yard
    assert found["simulated"] is True
    assert found["command"] == "sh -c 'echo hi there'"
    assert found["resources"]["limits"] == {"nvidia.com/gpu": "2", "memory": "1Gi"}
    assert found["resources"]["requests"] == found["resources"]["limits"]
    (attempt,) = found["attempts"]
    assert attempt["exit_code"] == 0
    if target.is_yard:  # no node of a cluster says it
        assert len(set(attempt["devices"])) == 2
        assert attempt["isolation"] == target.json("status")["isolation"]["level"]
    assert {"Scheduled", "Started"} <= {event["reason"] for event in found["events"]}
    said = target.ok("show", "shown")
    for text in ("succeeded", "sh -c 'echo hi there'", "2 (simulated)", *attempt["devices"]):
        assert text in said
    assert re.search(rf"Scheduled +Pod/{attempt['pod']} ", said)
    (waited,) = target.json("wait", "shown")
    assert {key: found[key] for key in RUN_KEYS} == waited


def test_status(yard: Yard) -> None:
    found = yard.status()
    keys = [
        "api",
        "metrics",
        "data_dir",
        "daemon_pid",
        "agent_pid",
        "node",
        "not_ready",
        "gpus",
        "nodes",
        "isolation",
        "versions",
    ]
    assert list(found) == keys
    assert re.fullmatch(r"https://127\.0\.0\.1:\d+", found["api"])
    assert found["data_dir"] == str(yard.home)
    assert found["gpus"] == {
        "model": "H100",
        "simulated": True,
        "capacity": 8,
        "allocatable": 8,
        "none_because": None,
    }
    assert found["isolation"]["level"] in ("bubblewrap", "none")
    assert found["versions"]["gpuyard"] == found["versions"]["daemon"] == __version__
    said = yard.ok("status")
    for text in (found["api"], found["data_dir"], f"pid {found['daemon_pid']}", "8 × H100 (simulated)"):
        assert text in said


def test_nodes(target: Shell) -> None:
    target.background("holder", "--gpus", "3", "--cpus", "500m", "--memory", "1Gi", "--", "sleep", "600")
    nodes = {node["name"]: node for node in target.json("nodes")}
    node = nodes[target.state("holder")["nodes"][0]]
    assert list(node) == [
        *("name", "ready", "not_ready", "gpu_model", "simulated", "gpus", "gpus_free", "faults"),
        *("occupants", "unoffered"),
        *("cpu_milli", "cpu_milli_free", "memory_bytes", "memory_bytes_free", "pods"),
    ]
    assert (node["ready"], node["gpu_model"], node["simulated"]) == (True, "H100", True)
    used = {key: node[key] - node[f"{key}_free"] for key in ("gpus", "cpu_milli", "memory_bytes")}
    if target.is_yard:
        assert (node["pods"], used) == (1, {"gpus": 3, "cpu_milli": 500, "memory_bytes": 2**30})
        assert "5/8" in target.ok("nodes")
    else:  # pods of others count as well: of the agent, at least
        assert node["pods"] > 1
        assert used["gpus"] >= 3 and used["cpu_milli"] > 500 and used["memory_bytes"] > 2**30
    assert node["gpus"] == 8
    header, *rows = target.ok("nodes").splitlines()
    assert header.split("  ")[0] == "NAME" and len(rows) == len(nodes)
    assert all("H100 (simulated)" in row for row in rows)


def test_runs_of_other_namespaces(yard: Yard) -> None:
    assert yard.json("ps", "--namespace", "kube-system") == []
    yard.ok("run", "--namespace", "kube-system", "-n", "there", "--", "true")
    assert yard.json("ps") == []
    (run,) = yard.json("ps", "-A")
    assert list(run) == ["namespace", *RUN_KEYS]
    assert (run["namespace"], run["name"]) == ("kube-system", "there")
    header, row = yard.ok("ps", "-A").splitlines()
    assert header.split()[:2] == ["NAMESPACE", "NAME"] and row.split()[:2] == ["kube-system", "there"]
    yard.ok("rm", "--namespace", "kube-system", "there")
    said = yard.refused(2, "run", "--namespace", "missing", "--", "true")
    assert "there is no namespace 'missing'" in said


def test_runs_are_listed_in_the_order_of_their_submits(target: Shell) -> None:
    names = ["e", "c", "d", "a", "b"]
    for name in names:
        target.ok("run", "-d", "-n", name, *NOWHERE, "--", "true")
    assert [run["name"] for run in target.json("ps")] == names


def test_only_those_that_run(target: Shell) -> None:
    target.ok("run", "-n", "over", "--", "true")
    assert target.call("ps", "--running").err == "No run is running.\n"
    target.background("going", "--", "sleep", "600")
    assert [run["name"] for run in target.json("ps", "--running")] == ["going"]
    assert "--all" in target.ok("ps", "--help")


def test_events_of_a_run_come_as_they_happen(target: Shell) -> None:
    target.background("one", "--", "sh", "-c", target.waiting)
    watching = target.start("events", "-w", "on")
    watching.wait_for("Pod/one-")
    target.open_gate("one")
    watching.wait_for("Completed")
    found = target.json("events", "@")
    seconds = [one["last_seen"][:19] for one in found]
    assert seconds == sorted(seconds)
    assert {one["object"].rpartition("-")[0] for one in found} == {"", "Pod/one"}
    header, *rows = target.ok("events", "one").splitlines()
    assert header.split() == ["TIME", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert any("SuccessfulCreate" in row and "Job/one" in row for row in rows)
