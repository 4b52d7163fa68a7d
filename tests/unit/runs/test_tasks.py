from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.runs.run import Run, make_run
from gpuyard.runs.target import Target
from gpuyard.runs.tasks import Task, of_sweep, read_sweep, tasks_of
from gpuyard.workloads.sweeps.sweep import SweepObjects
from gpuyard.workloads.sweeps.values import Sweep, ValueTable

SWEEP = Sweep((ValueTable(("lr",), (("0.1",), ("a b",), ("0.3",), ("0.4",), ("0.5",))),))
AT = "2026-01-31T12:00:00Z"


def pod(index: int, phase: str, code: int | None = None, attempt: int = 0) -> Manifest:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "1", "controller": True}
    state = (
        {"running": {"startedAt": AT}}
        if code is None
        else {"terminated": {"exitCode": code, "finishedAt": AT}}
    )
    return {
        "metadata": {
            "name": f"a-{index}-x{attempt}",
            "creationTimestamp": AT,
            "ownerReferences": [owner],
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]},
    }


def sweep_run(pods: list[Manifest], *, sweep: Sweep | None = SWEEP, ended: str = "", **status: Any) -> Run:
    conditions = [{"type": ended, "status": "True"}] if ended else []
    job = {
        "metadata": {
            "name": "a",
            "namespace": "ml",
            "uid": "1",
            "creationTimestamp": AT,
            "labels": {"gpuyard.io/run": "a"},
            "annotations": {"gpuyard.io/sweep": "a-sweep-1"},
        },
        "spec": {
            "completions": 5,
            "completionMode": "Indexed",
            "backoffLimitPerIndex": 1,
            "template": {"spec": {"containers": [{"name": "main"}]}},
        },
        "status": {**status, "conditions": conditions},
    }
    return of_sweep(make_run(job, pods), sweep)


def told(tasks: list[Task]) -> list[tuple[str, int | None, int]]:
    return [(task.state_text, task.exit_code, task.attempts) for task in tasks]


def test_each_task_says_what_has_become_of_it() -> None:
    pods = [pod(0, "Succeeded", 0), pod(1, "Failed", 3), pod(1, "Running", attempt=1)]
    pods += [pod(2, "Failed", 4), pod(3, "Failed", 1)]
    run = sweep_run(pods, completedIndexes="0", failedIndexes="2")
    assert told(tasks_of(run)) == [
        ("succeeded (Completed)", 0, 1),
        ("running", None, 2),
        ("failed: exited with 4", 4, 1),
        ("pending (BackOff)", 1, 1),
        ("pending (WaitingForPod)", None, 0),
    ]
    assert [task.values for task in tasks_of(run)] == [SWEEP.task(index) for index in range(5)]
    assert tasks_of(run)[1].to_json() == {
        "index": 1, "values": {"lr": "a b"}, "state": "running", "reason": "Running", "message": "",
        "exit_code": None, "attempts": 2, "pod": "a-1-x1", "node": "n",
    }  # fmt: skip


def test_tasks_of_a_run_that_is_over_wait_for_nothing() -> None:
    run = sweep_run([pod(2, "Failed", 4)], ended="Failed", completedIndexes="0", failedIndexes="1-2")
    assert [task.state_text for task in tasks_of(run)][:4] == [
        "succeeded (Completed)",
        "failed: its pod is gone",
        "failed: exited with 4",
        "stopped (JobFailed)",
    ]


def test_the_message_names_the_values_of_the_task_that_failed() -> None:
    run = sweep_run([pod(1, "Failed", 3)], ended="Failed", failedIndexes="1")
    assert run.state.message == (
        '1 of 5 tasks failed: task 1, lr="a b" (pod a-1-x0 on node n): exited with 3'
    )
    unknown = sweep_run([pod(1, "Failed", 3)], sweep=None, ended="Failed", failedIndexes="1")
    assert unknown.state.message == "1 of 5 tasks failed: task 1 (pod a-1-x0 on node n): exited with 3"
    assert tasks_of(unknown)[1].values is None


def test_no_other_run_has_tasks() -> None:
    run = sweep_run([])
    assert tasks_of(dataclasses.replace(run, state=dataclasses.replace(run.state, tasks=None))) == []


class Api:
    """Has one ConfigMap."""

    def __init__(self, found: Manifest | errors.GpuyardError) -> None:
        self.found = found

    async def get(self, *_: object) -> Manifest:
        if isinstance(self.found, errors.GpuyardError):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SweepObjects("a", "ml", SWEEP).config_map, SWEEP),
        (errors.NotFound("a-sweep-1"), None),
        (errors.Forbidden("a-sweep-1"), None),
        ({"data": {"tasks": "what somebody wrote"}}, None),
    ],
)
async def test_values_are_read_where_they_can_be(found: Any, expected: Sweep | None) -> None:
    target = Target(Api(found), "ml", is_yard=True)  # type: ignore[arg-type]
    assert await read_sweep(target, sweep_run([]).job) == expected
    odd = {"metadata": {"namespace": "ml", "annotations": {"gpuyard.io/sweep": "../nodes/a"}}}
    assert await read_sweep(target, odd) is None
