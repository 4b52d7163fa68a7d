"""What is said of a run whose pods the scheduler starts together."""

from __future__ import annotations

from typing import Any

from gpuyard.explain.ladder import climb
from gpuyard.explain.placement import explain
from gpuyard.explain.run_objects import RunObjects
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot
from tests.unit.explain.steps.test_nodes import node, pod

SAYS = "the scheduler starts 2 pods of PodGroup train or none, and says: "
WAITS = "minCount (2) cannot be satisfied: 1 scheduled, 0 remaining"
TRIED = ", pod group preemption: No preemption victims found for incoming preemptor"
JOB = {"kind": "Job", "metadata": {"name": "train", "namespace": "n"}, "spec": {"template": {"spec": {}}}}


def group(least: int, condition: dict[str, str] | None = None) -> dict[str, Any]:
    """As Kubernetes 1.37.2 has it."""
    conditions = [{"type": "PodGroupInitiallyScheduled", **condition}] if condition else []
    return {
        "metadata": {"name": "train", "namespace": "n"},
        "spec": {
            "disruptionMode": {"single": {}},
            "priority": 0,
            "schedulingPolicy": {"gang": {"minCount": least}},
        },
        "status": {"conditions": conditions} if conditions else {},
    }


def of_group(name: str, gpus: int = 8, **status: Any) -> dict[str, Any]:
    made = pod(name, gpus)
    made["spec"]["schedulingGroup"] = {"podGroupName": "train"}
    return {**made, "status": status}


def said(pod_group: dict[str, Any], *pods: dict[str, Any]) -> list[str]:
    explanation = explain(PodRequest.of(pods[0]), Snapshot.of([node(8, 0)], [pod("other", 4, "vm")]))
    return climb(RunObjects(JOB, pods[0], neighbours=pods, pod_group=pod_group), explanation).lines()


def test_the_scheduler_s_words_of_all_pods_come_last() -> None:
    waits = {"status": "False", "reason": "Unschedulable", "message": WAITS + TRIED}
    lines = said(group(2, waits), of_group("a"), of_group("b"))
    assert lines[0].startswith("held at nodes: ")
    assert SAYS + WAITS in lines


def test_of_pods_that_come_to_those_of_an_elastic_run_it_says_nothing_more() -> None:
    """Seen on 1.37.2: the condition is false though one pod of the group has its node."""
    waits = {"status": "False", "reason": "Unschedulable", "message": "pod group is unschedulable" + TRIED}
    placed = of_group("b")
    placed["spec"]["nodeName"] = "vm"
    lines = said(group(1, waits), of_group("a"), placed)
    assert lines[0].startswith("held at nodes: needs 8 GPUs")
    assert not any("or none" in line for line in lines)


def test_a_group_that_was_started_once_says_nothing_more() -> None:
    lines = said(group(2, {"status": "True", "reason": "Scheduled", "message": ""}), *map(of_group, "ab"))
    assert not any("or none" in line for line in lines)
    assert lines[0].startswith("held at nodes: ")


def test_fewer_pods_than_are_started_together() -> None:
    lines = said(group(3), of_group("a"), of_group("b"))
    assert lines[0] == (
        "held at nodes: the scheduler starts 3 pods of PodGroup train or none, and there are 2"
    )
    assert "what would help: see what keeps its Job from making them: kubectl describe job train" in lines


def test_pods_that_have_ended_do_not_count() -> None:
    lines = said(group(2), of_group("a"), of_group("b", phase="Succeeded"))
    assert lines[0].endswith("or none, and there are 1 that haven't ended, and 1 that have")


def test_pods_of_other_groups_do_not_count() -> None:
    other = of_group("b")
    other["spec"]["schedulingGroup"]["podGroupName"] = "another"
    assert said(group(2), of_group("a"), other, pod("c", 1))[0].endswith("or none, and there are 1")
