"""The tasks of a sweep: the values of each, and what has become of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuyard import errors
from gpuyard.kube.names import is_subdomain
from gpuyard.kube.objects import CONFIG_MAPS, Manifest, annotations_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.wellknown import ANNOTATION_COMPLETION_INDEX, ANNOTATION_SWEEP
from gpuyard.runs.run import ENDED, Run, state_and_reason
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import (
    PodVerdict,
    Reason,
    State,
    exit_code,
    is_stopped,
    pod_verdict,
    why_failed,
)
from gpuyard.workloads.run_state import run_state

if TYPE_CHECKING:
    from gpuyard.workloads.sweeps.sweep import Tasks
    from gpuyard.workloads.sweeps.values import Sweep


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        values: None where they can't be read any more.
        verdict: the state that it is in, and why.
        exit_code: of its last attempt; None while that goes on, or had none.
        attempts: so far, as far as their pods are there.
        pod: of its last attempt; None before the first.
        node: where that is or was.
    """

    index: int
    values: Mapping[str, str] | None
    verdict: PodVerdict
    exit_code: int | None = None
    attempts: int = 0
    pod: str | None = None
    node: str | None = None

    @property
    def state_text(self) -> str:
        """`pending (Unschedulable)`, or how it failed."""
        if self.verdict.state is State.FAILED:
            return f"failed: {self.verdict.message}"
        return state_and_reason(self.verdict)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "index": self.index,
            "values": None if self.values is None else dict(self.values),
            "state": str(self.verdict.state),
            "reason": str(self.verdict.reason),
            "message": self.verdict.message,
            "exit_code": self.exit_code,
            "attempts": self.attempts,
            "pod": self.pod,
            "node": self.node,
        }


async def with_tasks(target: Target, run: Run) -> Run:
    """The run with the values of its tasks, if it is a sweep whose values its user may read."""
    return run if run.state.tasks is None else of_sweep(run, await read_sweep(target, run.job))


async def read_sweep(target: Target, job: Manifest) -> Sweep | None:
    """The values of a run's tasks; None of a run without, and where they are gone or may not be read."""
    name = annotations_of(job).get(ANNOTATION_SWEEP, "")
    if not is_subdomain(name):  # anybody may write an annotation
        return None
    from gpuyard.workloads.sweeps.sweep import of_config_map  # Few runs are sweeps.

    try:
        return of_config_map(await target.api.get(CONFIG_MAPS, name, job["metadata"]["namespace"]))
    except (errors.Forbidden, errors.NotFound):
        return None


def of_sweep(run: Run, sweep: Sweep | None) -> Run:
    """The run with these values, which its message then names."""
    if sweep is None:
        return run
    state = run.state
    if state.state is State.FAILED:
        message = run_state(run.job, run.pods, sweep=sweep).message
        state = dataclasses.replace(state, message=message)
    return dataclasses.replace(run, state=state, sweep=sweep)


def tasks_of(run: Run) -> list[Task]:
    """All tasks of a sweep, in their order; none of any other run."""
    if run.state.tasks is None:
        return []
    pods: dict[str, list[Manifest]] = {}
    for pod in run.pods:
        pods.setdefault(annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX, ""), []).append(pod)
    return [_task(run, run.state.tasks, n, pods.get(str(n), ())) for n in range(run.state.tasks.total)]


def _task(run: Run, tasks: Tasks, index: int, pods: Sequence[Manifest]) -> Task:
    last = pods[-1] if pods else None
    return Task(
        index,
        run.sweep.task(index) if run.sweep is not None and index < run.sweep.size else None,
        _verdict(run, tasks, index, last),
        exit_code(last) if last else None,
        len(pods),
        last["metadata"]["name"] if last else None,
        last["spec"].get("nodeName") if last else None,
    )


def _verdict(run: Run, tasks: Tasks, index: int, last: Manifest | None) -> PodVerdict:
    """Of one task, by its last pod and what the Job has counted."""
    phase = (last or {}).get("status", {}).get("phase")
    if index in tasks.succeeded or phase == "Succeeded":
        return PodVerdict(State.SUCCEEDED, Reason.COMPLETED)
    if last is not None and not is_terminal(last):
        return pod_verdict(last)
    if is_stopped(run.job):
        is_over = run.state.state in ENDED
        return PodVerdict(State.STOPPED if is_over else State.PENDING, Reason.STOPPED_BY_USER)
    if last is not None and (index in tasks.failed or run.state.state in ENDED):
        return PodVerdict(State.FAILED, *why_failed(last))
    if index in tasks.failed:
        return PodVerdict(State.FAILED, Reason.JOB_FAILED, "its pod is gone")
    if run.state.state in ENDED:
        return PodVerdict(State.STOPPED, Reason.JOB_FAILED, "the run ended before it")
    if last is not None:
        return PodVerdict(State.PENDING, Reason.BACK_OFF, f"the last attempt: {why_failed(last)[1]}")
    return PodVerdict(State.PENDING, Reason.WAITING_FOR_POD)
