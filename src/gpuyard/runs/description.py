"""Everything that is known about one run, read once: for `show`, as values and as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpuyard.gpus.use import GpuUse, run_use
from gpuyard.kube.objects import EVENTS, Manifest, annotations_of, uid_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.wellknown import (
    ANNOTATION_COMMAND,
    ANNOTATION_DEVICES,
    ANNOTATION_ISOLATION,
    ANNOTATION_NOT_APPLIED,
    IMAGE_PROCESS,
    RUNTIME_CLASS_PROCESS,
)
from gpuyard.runs.attempts import (
    LostAttempt,
    gone_attempts,
    is_cut_short,
    lost_attempt,
)
from gpuyard.runs.explaining.diagnosis import diagnose_run
from gpuyard.runs.object_events import event_json, in_order, telling_events
from gpuyard.runs.run import Run, gpu_models, has_ranks, rank_of_name
from gpuyard.runs.target import Target
from gpuyard.workloads.command import is_python
from gpuyard.workloads.outcome import Reason, ended_by_stop, shell_exit_code, why_failed

if TYPE_CHECKING:
    from gpuyard.explain.output.diagnosis import Diagnosis


@dataclass(frozen=True)
class Attempt:
    """One pod of a run.

    Attributes:
        exit_code: None while its process goes on, or when it never had one.
        devices: UUIDs of its GPUs, in the order in which the process counts them.
        not_applied: field paths of the pod's spec that its node doesn't apply.
        reason, message: how it failed; None otherwise.
        rank: the pod's number among those of its run; None where it is the only one.
        values: of a sweep's task; None of other runs, and where they can't be read.
    """

    pod: str
    phase: str | None
    node: str | None
    exit_code: int | None
    devices: tuple[str, ...]
    isolation: str | None
    not_applied: tuple[str, ...]
    reason: str | None = None
    message: str | None = None
    rank: int | None = None
    values: Mapping[str, str] | None = None

    @classmethod
    def of(cls, pod: Manifest, job: Manifest, lost: LostAttempt | None = None) -> Attempt:
        """Reads a pod of this Job; `lost` says why it was cut short, if it was."""
        annotations = annotations_of(pod)
        ended = [
            container["state"]["terminated"]
            for container in container_statuses(pod)
            if "terminated" in (container.get("state") or {})
        ]
        return cls(
            pod=pod["metadata"]["name"],
            phase=pod.get("status", {}).get("phase"),
            node=pod["spec"].get("nodeName"),
            exit_code=ended[0].get("exitCode") if ended else None,
            devices=_split(annotations.get(ANNOTATION_DEVICES)),
            isolation=annotations.get(ANNOTATION_ISOLATION),
            not_applied=_split(annotations.get(ANNOTATION_NOT_APPLIED)),
            **({"reason": str(lost.reason), "message": lost.message} if lost else _failure(pod, job)),
        )

    @classmethod
    def gone(cls, lost: LostAttempt) -> Attempt:
        """One whose pod is gone."""
        reason = str(lost.reason or "Deleted")
        return cls(
            lost.pod, None, lost.node or None, None, (), None, (), reason, lost.message or "its pod is gone"
        )

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {
            "pod": self.pod,
            "phase": self.phase,
            "node": self.node,
            "exit_code": self.exit_code,
            "devices": list(self.devices),
            "isolation": self.isolation,
            "not_applied": list(self.not_applied),
            "reason": self.reason,
            "message": self.message,
            "rank": self.rank,
            "values": None if self.values is None else dict(self.values),
        }


@dataclass(frozen=True)
class Description:
    """A run and what there is about it.

    Attributes:
        events: of the run and its pods, oldest first.
        diagnoses: causes that its output names, where it failed.
        models: of the GPUs, by node name, as far as known.
        gone: attempts whose pods are deleted.
        cut: attempts that others ended, and whose pods are there.
    """

    run: Run
    events: Sequence[Manifest] = ()
    diagnoses: Sequence[Diagnosis] = ()
    models: Mapping[str, str] | None = None
    gone: Sequence[LostAttempt] = ()
    cut: Sequence[LostAttempt] = ()

    @property
    def container(self) -> Mapping[str, Any]:
        """The container of the run's pods, as the Job has it."""
        container: Mapping[str, Any] = self._pod_spec["containers"][0]
        return container

    @property
    def _pod_spec(self) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.run.job["spec"]["template"]["spec"]
        return spec

    @property
    def image(self) -> str | None:
        """None of a process of a yard's host."""
        image = self.container.get("image")
        return None if image == IMAGE_PROCESS else image

    @property
    def python(self) -> str | None:
        """The interpreter of a process of a yard's host; None in an image, and of other programs."""
        if self._pod_spec.get("runtimeClassName") != RUNTIME_CLASS_PROCESS:
            return None
        program = (self.container.get("command") or [""])[0]
        return program if is_python(program) else None

    @property
    def command(self) -> str | None:
        """As the user wrote it."""
        return annotations_of(self.run.job).get(ANNOTATION_COMMAND)

    @property
    def use(self) -> GpuUse | None:
        """What it has used of its GPUs so far; None where nobody has said so (yet)."""
        return run_use(self.run.pods)

    @property
    def attempts(self) -> list[Attempt]:
        """Its pods, in the order of their creation; those that are gone were before the others. Of several
        ranks, one rank after the other."""
        cut = {attempt.pod: attempt for attempt in self.cut}
        job = self.run.job
        there = [Attempt.of(pod, job, cut.get(pod["metadata"]["name"])) for pod in self.run.pods]
        attempts = [*map(Attempt.gone, self.gone), *there]
        if not has_ranks(self.run):
            return attempts
        ranked = (self._ranked(attempt, rank_of_name(attempt.pod)) for attempt in attempts)
        return sorted(ranked, key=lambda attempt: attempt.rank or 0)

    def _ranked(self, attempt: Attempt, rank: int | None) -> Attempt:
        sweep = self.run.sweep
        if sweep is None or rank is None or rank >= sweep.size:
            return replace(attempt, rank=rank)
        return replace(attempt, rank=rank, values=sweep.task(rank))

    def to_json(self) -> dict[str, Any]:
        """The keys of `ps -o json`, and those of `show -o json` besides."""
        return {
            **self.run.state.to_json(),
            "command": self.command,
            "image": self.image,
            "python": self.python,
            "resources": self.container.get("resources") or {},
            "gpu_use": self.use.summary() if self.use else None,
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "events": [event_json(event) for event in self.events],
            "diagnoses": [diagnosis.to_json() for diagnosis in self.diagnoses],
        }


async def describe_run(target: Target, run: Run) -> Description:
    """Reads all of it."""
    if run.state.tasks is not None:
        from gpuyard.runs.tasks import with_tasks  # Few runs are sweeps.

        run = await with_tasks(target, run)
    gone, cut, events, models, diagnoses = await asyncio.gather(
        gone_attempts(target, run.job, run.pods),
        asyncio.gather(*(lost_attempt(target, pod) for pod in run.pods if is_cut_short(pod))),
        _events(target, run),
        gpu_models(target, run.state.nodes),
        diagnose_run(target, run),
    )
    of_gone = (event for attempt in gone for event in attempt.events)
    told = in_order(telling_events(run, [*events, *of_gone]))
    return Description(run, told, diagnoses, models, gone, cut)


async def _events(target: Target, run: Run) -> list[Manifest]:
    uids = [uid_of(run.job), *(uid_of(pod) for pod in run.pods)]
    selectors = [f"involvedObject.uid={uid}" for uid in uids]
    lists = await asyncio.gather(
        *(target.api.list(EVENTS, target.namespace, field_selector=s) for s in selectors)
    )
    return [event for one in lists for event in one.items]


def _failure(pod: Manifest, job: Manifest) -> dict[str, Any]:
    if pod.get("status", {}).get("phase") != "Failed":
        return {}
    if ended_by_stop(job, pod):
        if shell_exit_code(job) is not None:
            return {"reason": str(Reason.COMPLETED), "message": "its user left the shell"}
        return {"reason": str(Reason.STOPPED_BY_USER), "message": "it was stopped"}
    reason, message = why_failed(pod)
    return {"reason": str(reason), "message": message}


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part for part in (text or "").split(",") if part)
