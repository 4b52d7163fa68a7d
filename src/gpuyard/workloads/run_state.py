"""What state a run is in: derived from its Job and pods alone, so that every reader says the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gpuyard.gpus.resources import gpus_in, pod_gpu_resources
from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import annotations_of, labels_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.timestamps import format_time, parse_time
from gpuyard.kube.wellknown import (
    ANNOTATION_COMPLETION_INDEX,
    ANNOTATION_NODES,
    ANNOTATION_STOPPED_AT,
    ANNOTATION_SWEEP,
    LABEL_RUN,
    LABEL_SIMULATED,
)
from gpuyard.workloads.outcome import (
    PodVerdict,
    Reason,
    State,
    container_state,
    disruption_of,
    ended_with_another,
    exit_code,
    is_stopped,
    missing_text,
    pod_verdict,
    shell_exit_code,
    stopped_verdict,
    why_failed,
)
from gpuyard.workloads.pod_failure_policy import is_over

if TYPE_CHECKING:
    from gpuyard.workloads.sweeps.sweep import Tasks
    from gpuyard.workloads.sweeps.values import Sweep

__all__ = ["EARLY_SUCCESS", "Reason", "RunState", "State", "run_state"]


#: Of a run that has succeeded as far as its Job can tell.
EARLY_SUCCESS = "its process ended with 0 when it was told to end: {why}"


@dataclass(frozen=True)
class ElasticPods:
    """How many pods an elastic run may have, is to have, and has.

    Attributes:
        least: without so many it doesn't start, nor go on.
        most: to which it may be scaled.
        wanted: that it is to have.
        present: of those, that run or have done their work.
    """

    least: int
    most: int
    wanted: int
    present: int

    @classmethod
    def of(cls, job: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> ElasticPods | None:
        """Of a run's Job and its pods; None where it isn't elastic."""
        least, dots, most = annotations_of(job).get(ANNOTATION_NODES, "").partition("..")
        if not (dots and least.isdecimal() and most.isdecimal()):
            return None
        wanted = int(job["spec"].get("completions") or 0)
        present = sum(_is_present(pod, wanted) for pod in pods)
        return cls(int(least), int(most), wanted, present)

    @property
    def text(self) -> str:
        """`2 of 4 pods`."""
        return f"{self.present} of {self.wanted} pods"

    def to_json(self) -> dict[str, int]:
        """All of them."""
        return {"least": self.least, "most": self.most, "wanted": self.wanted, "present": self.present}


def _is_present(pod: Mapping[str, Any], wanted: int) -> bool:
    """Who runs and is being stopped will leave."""
    index = annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX, "")
    phase, leaves = pod.get("status", {}).get("phase"), "deletionTimestamp" in pod["metadata"]
    is_there = phase == "Succeeded" or (phase == "Running" and not leaves)
    return is_there and index.isdecimal() and int(index) < wanted


@dataclass(frozen=True)
class RunState:
    """One run as `ps` lists it.

    Attributes:
        message: one sentence with the details, or empty.
        exit_code: of the last attempt once the run has ended (128+n for signal n), of the first failing
            rank where it has several pods; None while it goes on, or when no process has ended. A run that
            was stopped or timed out may have 0, where its process saved and ended well.
        gpus: asked for, over all pods that run at a time; parts and shares of GPUs count as one each.
        gpu_resources: the same by resource, `{"nvidia.com/mig-1g.10gb": 2}`.
        simulated: whether it has, or had, simulated GPUs.
        nodes: where its pods are or were, sorted.
        priority: its PriorityClass, if any.
        started_at: when its first process started.
        tasks: how far those of a sweep are; None for any other run.
        pods: how many of an elastic run are there; None for any other run.
        attempts: so far, the present one included; 0 before the first.
    """

    name: str
    kind: str
    state: State
    reason: Reason
    message: str
    exit_code: int | None
    gpus: int
    gpu_resources: Mapping[str, int]
    simulated: bool
    nodes: tuple[str, ...]
    priority: str | None
    submitted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    tasks: Tasks | None = None
    pods: ElasticPods | None = None

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `ps -o json`; times are RFC 3339 in UTC or null."""
        return {
            "name": self.name,
            "kind": self.kind,
            "state": str(self.state),
            "reason": str(self.reason),
            "exit_code": self.exit_code,
            "gpus": self.gpus,
            "gpu_resources": dict(self.gpu_resources),
            "simulated": self.simulated,
            "nodes": list(self.nodes),
            "priority": self.priority,
            "submitted_at": _text(self.submitted_at),
            "started_at": _text(self.started_at),
            "finished_at": _text(self.finished_at),
            "tasks": self.tasks.to_json() if self.tasks else None,
            "pods": self.pods.to_json() if self.pods else None,
        }


def run_state(
    job: Mapping[str, Any],
    pods: Iterable[Mapping[str, Any]],
    *,
    simulated_nodes: Collection[str] = (),
    sweep: Sweep | None = None,
) -> RunState:
    """The state of the run that this Job carries.

    Args:
        job: the Job.
        pods: every pod that it owns, in any order.
        simulated_nodes: names of nodes whose GPUs are simulated; pods that say so themselves
            (gpuyard.io/simulated) count as well.
        sweep: the values of its tasks, for the message; None where they aren't known, or there are none.
    """
    ordered = sorted(pods, key=_creation)
    attempts = _attempts(ordered)
    last = [group[-1] for group in attempts]
    verdict = _verdict(job, ordered, last)
    ended = verdict.state in (State.SUCCEEDED, State.FAILED, State.STOPPED)
    template = job["spec"]["template"]["spec"]
    pods_at_a_time = int(job["spec"].get("parallelism", 1))
    resources = {name: count * pods_at_a_time for name, count in pod_gpu_resources(template).items()}
    gpus = gpus_in(resources)
    nodes = {pod["spec"]["nodeName"] for pod in ordered if pod["spec"].get("nodeName")}
    return RunState(
        name=labels_of(job).get(LABEL_RUN) or job["metadata"]["name"],
        kind="Job",
        state=verdict.state,
        reason=verdict.reason,
        message=_which(job, verdict.failed, sweep) + verdict.message,
        exit_code=_exit_code(job, last) if ended else None,
        gpus=gpus,
        gpu_resources=resources,
        simulated=gpus > 0 and any(_is_simulated(pod, simulated_nodes) for pod in ordered),
        nodes=tuple(sorted(nodes)),
        priority=template.get("priorityClassName"),
        submitted_at=_time(job["metadata"].get("creationTimestamp")),
        started_at=min((started for pod in ordered if (started := _started_at(pod))), default=None),
        finished_at=_finished_at(job, ordered) if ended else None,
        attempts=_attempt_count(job, attempts),
        tasks=_tasks(job),
        pods=ElasticPods.of(job, last),
    )


def _verdict(
    job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]
) -> PodVerdict:
    stopped = is_stopped(job)
    live = [pod for pod in last if not is_terminal(pod)]
    if condition_is_true(job, "Complete"):
        return PodVerdict(State.SUCCEEDED, Reason.COMPLETED, _how_succeeded(job, last))
    if stopped and not live and (condition_is_true(job, "Failed") or job["spec"].get("suspend")):
        return stopped_verdict(job)
    if condition_is_true(job, "Failed"):
        return _failed(job, last)
    if live:
        verdict = _alive(job, live)
        if stopped:
            return PodVerdict(verdict.state, Reason.STOPPING)
        return verdict
    if stopped:
        return PodVerdict(State.RUNNING if pods else State.PENDING, Reason.STOPPING)
    if job["spec"].get("suspend"):
        return PodVerdict(State.PENDING, Reason.SUSPENDED, "the Job is suspended")
    return _between(job, pods, last)


def _between(
    job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]
) -> PodVerdict:
    """No pod is alive and the Job isn't closed: its controller is about to close it or to try again."""
    # A pod that is being deleted counts as failed, however it ends.
    kept = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    phases = [pod.get("status", {}).get("phase") for pod in kept]
    if is_over(job, [pod for pod, phase in zip(kept, phases, strict=True) if phase == "Failed"]):
        return _failed(job, last)
    if phases.count("Succeeded") >= int(job["spec"].get("completions") or 1):
        return PodVerdict(State.SUCCEEDED, Reason.COMPLETED, _how_succeeded(job, last))
    failed = _first_failed(last)
    if failed is not None:
        disruption, (_, why) = disruption_of(failed), why_failed(failed)
        reason = disruption[0] if disruption else Reason.BACK_OFF
        return PodVerdict(State.PENDING, reason, f"the next attempt starts soon; the last one: {why}")
    return PodVerdict(State.PENDING, Reason.WAITING_FOR_POD, "it has no pod yet")


def _how_succeeded(job: Mapping[str, Any], last: Sequence[Mapping[str, Any]]) -> str:
    """Why a success may be none: a process that saves and ends well when it is told to is no failure. Of an
    elastic run with how many pods."""
    for pod in last:
        if disruption := disruption_of(pod):
            return EARLY_SUCCESS.format(why=disruption[1])
    elastic = ElasticPods.of(job, last)
    return f"with {elastic.text}" if elastic else ""


def _alive(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> PodVerdict:
    """The least advanced pod decides: a run with several is running when all of them are. Of one that is
    being ended for the sake of others, that is the reason."""
    order = [State.PENDING, State.STARTING, State.RUNNING]
    if tasks := _tasks(job):
        # They don't wait for one another.
        verdict = max((pod_verdict(pod) for pod in pods), key=lambda verdict: order.index(verdict.state))
        return PodVerdict(verdict.state, verdict.reason, verdict.message or tasks.text)
    verdicts = sorted((pod_verdict(pod) for pod in pods), key=lambda verdict: order.index(verdict.state))
    verdict = verdicts[0]
    elastic = ElasticPods.of(job, pods)
    if elastic is not None and elastic.present >= elastic.least:
        waits = f"; another waits: {verdict.message}" if verdict.message else ""
        message = elastic.text + waits if elastic.present < elastic.wanted else ""
        return PodVerdict(State.RUNNING, Reason.RUNNING, message)
    for pod in pods:
        if disruption := disruption_of(pod):
            reason, why = disruption
            then = "its Job makes no other" if is_over(job, [pod]) else "the next attempt follows"
            return PodVerdict(verdict.state, reason, f"{why}; it is being ended, and {then}")
    return verdict


def _failed(job: Mapping[str, Any], last: Sequence[Mapping[str, Any]]) -> PodVerdict:
    condition = find_condition(job, "Failed") or {}
    if condition.get("reason") == "DeadlineExceeded":
        return PodVerdict(State.FAILED, Reason.DEADLINE_EXCEEDED, str(condition.get("message", "")))
    failed = _first_failed(last)
    if failed is None:
        return PodVerdict(State.FAILED, Reason.JOB_FAILED, str(condition.get("message", "")))
    reason, message = why_failed(failed)
    if reason is Reason.RANK_MISSING:
        return PodVerdict(State.FAILED, reason, missing_text(job, last))
    return PodVerdict(State.FAILED, reason, message, failed)


def _tasks(job: Mapping[str, Any]) -> Tasks | None:
    if ANNOTATION_SWEEP not in annotations_of(job):
        return None
    from gpuyard.workloads.sweeps.sweep import Tasks  # Few runs are sweeps.

    return Tasks.of(job)


def _which(job: Mapping[str, Any], pod: Mapping[str, Any] | None, sweep: Sweep | None) -> str:
    """`rank 2 (pod train-2-x7k2q on node a): ` of a run of several pods; of a sweep how many tasks failed,
    and `task 2, lr=0.1 (pod …): `; else empty."""
    index = annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX) if pod else None
    if pod is None or index is None or int(job["spec"].get("completions") or 1) == 1:
        return ""
    node = pod["spec"].get("nodeName")
    where = f"(pod {pod['metadata']['name']}{f' on node {node}' if node else ''}): "
    tasks = _tasks(job)
    return f"rank {index} {where}" if tasks is None else f"{tasks.failed_text}{_task(index, sweep)} {where}"


def _task(index: str, sweep: Sweep | None) -> str:
    if sweep is None or not index.isdecimal() or int(index) >= sweep.size:
        return f"task {index}"
    from gpuyard.workloads.sweeps.sweep import values_text

    return f"task {index}, {values_text(sweep.task(int(index)))}"


def _exit_code(job: Mapping[str, Any], last: Sequence[Mapping[str, Any]]) -> int | None:
    failed = _first_failed(last)
    codes = [shell_exit_code(job), *(exit_code(pod) for pod in ([failed] if failed else last))]
    return next((code for code in codes if code is not None), None)


def failed_pod(pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one of a run's pods that failed first of those that no later one has taken the place of."""
    return _first_failed([group[-1] for group in _attempts(sorted(pods, key=_creation))])


def _first_failed(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The pod that failed first: the others of a distributed run usually fail because of it, and those that
    their launcher ended for it say so. Of the same second are those that the Job deletes because of it."""

    def order(pod: Mapping[str, Any]) -> tuple[bool, str, bool]:
        is_deleted = bool(pod["metadata"].get("deletionTimestamp"))
        return ended_with_another(pod), _pod_finished_text(pod) or "~", is_deleted

    failed = (pod for pod in pods if pod.get("status", {}).get("phase") == "Failed")
    return min(failed, key=order, default=None)


def _attempts(pods: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Pods that did the same work one after another: of each completion index, or of the whole Job."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        groups.setdefault(annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX, ""), []).append(pod)
    return list(groups.values())


def _attempt_count(job: Mapping[str, Any], attempts: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    seen = max((len(group) for group in attempts), default=0)
    if len(attempts) > 1:
        return seen
    # Failed pods may have been deleted; the Job has counted them.
    status = job.get("status", {})
    counted = sum(int(status.get(key) or 0) for key in ("active", "succeeded", "failed"))
    return max(seen, counted)


def _is_simulated(pod: Mapping[str, Any], simulated_nodes: Collection[str]) -> bool:
    return (
        annotations_of(pod).get(LABEL_SIMULATED) == "true" or pod["spec"].get("nodeName") in simulated_nodes
    )


def _creation(pod: Mapping[str, Any]) -> tuple[str, str]:
    return str(pod["metadata"].get("creationTimestamp", "")), str(pod["metadata"].get("name", ""))


def _started_at(pod: Mapping[str, Any]) -> datetime | None:
    state = container_state(pod, "running") or container_state(pod, "terminated") or {}
    started = _time(state.get("startedAt"))
    # A container that couldn't be started has 1970 there.
    return started if started and started.timestamp() > 0 else None


def _pod_finished_text(pod: Mapping[str, Any]) -> str:
    return str((container_state(pod, "terminated") or {}).get("finishedAt") or "")


def _finished_at(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> datetime | None:
    """When the last process ended; without one, when the Job did or its user stopped it."""
    ends = [moment for pod in pods if (moment := _time(_pod_finished_text(pod)))]
    if ends:
        return max(ends)
    condition = find_condition(job, "Failed") or {}
    completed = job.get("status", {}).get("completionTime")
    return _time(
        completed or condition.get("lastTransitionTime") or annotations_of(job).get(ANNOTATION_STOPPED_AT)
    )


def _time(text: str | None) -> datetime | None:
    """None also for what isn't a time: anybody who may edit a Job may write an annotation."""
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None


def _text(moment: datetime | None) -> str | None:
    return format_time(moment) if moment else None
