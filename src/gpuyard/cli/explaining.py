"""What holds a run: reads what the ladder looks at, as far as the user may, and asks it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.kube.objects import (
    CONFIG_MAPS,
    EVENTS,
    LIMIT_RANGES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    PRIORITY_CLASSES,
    RESOURCE_QUOTAS,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    Manifest,
    Resource,
    key_of,
    labels_of,
    uid_of,
)
from gpuyard.kube.wellknown import LABEL_PART_OF
from gpuyard.runs.run import ENDED, Run, is_alive
from gpuyard.runs.target import Target
from gpuyard.tenancy.names import PART_OF
from gpuyard.workloads.outcome import Reason, container_state, exit_code, why_failed

if TYPE_CHECKING:
    from gpuyard.explain.ladder import Ladder
    from gpuyard.explain.output.diagnosis import Diagnosis
    from gpuyard.explain.placement import Explanation
    from gpuyard.explain.run_objects import Ended, RunObjects

_TAIL_LINES = 5
_LONGEST = 200
#: Kinds whose names are looked up when one that is named isn't there. Of Secrets the values would come, too.
_NAMED = {
    "ServiceAccount": SERVICE_ACCOUNTS,
    "PriorityClass": PRIORITY_CLASSES,
    "RuntimeClass": RUNTIME_CLASSES,
    "ConfigMap": CONFIG_MAPS,
}


@dataclass(frozen=True)
class Answer:
    """What holds a run.

    Attributes:
        explanation: the nodes' arithmetic; None unless it waits for a node, or where they can't be read.
        nodes: that were looked at.
    """

    run: Run
    ladder: Ladder
    explanation: Explanation | None
    nodes: Sequence[Manifest]


class _Reader:
    """Lists objects; what the user may not list, or the server doesn't serve, is an empty list."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.unreadable: set[str] = set()

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        field_selector: str = "",
        wanted: bool = True,
    ) -> Sequence[Manifest]:
        """Every object, nothing unless wanted; `unreadable` then has the plural of what was refused."""
        if not wanted:
            return ()
        try:
            return (await self._target.api.list(resource, namespace, field_selector=field_selector)).items
        except errors.Forbidden:
            self.unreadable.add(resource.plural if namespace else f"all {resource.plural}")
        except errors.NotFound:
            pass  # a yard doesn't serve all of them
        return ()


async def find_answer(
    target: Target, run: Run, diagnoses: Sequence[Diagnosis] = (), output: Sequence[str] = ()
) -> Answer:
    """Looks at every step of the ladder.

    Args:
        target: where the run is.
        run: as it is now.
        diagnoses: what its output is known to mean.
        output: the end of it.
    """
    from gpuyard.explain.ladder import climb

    reader = _Reader(target)
    pod = _telling_pod(run)
    over = run.state.state in ENDED
    placed = pod is not None and is_alive(pod) and bool(pod["spec"].get("nodeName"))
    waits = run.state.state == "pending" and not placed
    nodes, everywhere, objects = await asyncio.gather(
        reader.list(NODES, wanted=waits),
        reader.list(PODS, wanted=waits),
        _read(reader, target, run, pod, over=over),
    )
    objects = dataclasses.replace(
        objects,
        agents=[p for p in everywhere if labels_of(p).get(LABEL_PART_OF) == PART_OF],
        unreadable=frozenset(reader.unreadable),
    )
    explanation = None
    if waits and "all nodes" not in reader.unreadable and not run.job["spec"].get("suspend"):
        incomplete = "all pods" in reader.unreadable
        pods = objects.neighbours if incomplete else everywhere
        explanation = _explain(objects, nodes, pods, incomplete=incomplete)
    ended = _ended(run, pod, output)
    ladder = climb(objects, explanation, ended=ended, causes=diagnoses, over=over)
    if missing := _missing_kind(ladder):
        names = [key_of(item).name for item in await reader.list(_NAMED[missing], _scope(target, missing))]
        objects = dataclasses.replace(objects, names={missing: names})
        ladder = climb(objects, explanation, ended=ended, causes=diagnoses, over=over)
    return Answer(run, ladder, explanation, nodes)


async def _read(reader: _Reader, target: Target, run: Run, pod: Manifest | None, *, over: bool) -> RunObjects:
    from gpuyard.explain.run_objects import RunObjects
    from gpuyard.explain.steps.volumes import claim_names

    namespace = target.namespace
    if over:
        return RunObjects(run.job, pod, is_yard=target.is_yard)
    unplaced = pod is None or not pod["spec"].get("nodeName")
    spec = pod["spec"] if pod else run.job["spec"]["template"]["spec"]
    claims = unplaced and any(claim_names(spec, key_of(pod).name if pod else ""))
    about = f"involvedObject.uid={uid_of(pod if pod else run.job)}"
    of_claims = "involvedObject.kind=PersistentVolumeClaim"
    (
        events,
        claim_events,
        quotas,
        limit_ranges,
        neighbours,
        its_claims,
        volumes,
        classes,
    ) = await asyncio.gather(
        reader.list(EVENTS, namespace, field_selector=about),
        reader.list(EVENTS, namespace, field_selector=of_claims, wanted=claims),
        reader.list(RESOURCE_QUOTAS, namespace, wanted=pod is None),
        reader.list(LIMIT_RANGES, namespace, wanted=pod is None),
        reader.list(PODS, namespace, wanted=unplaced),
        reader.list(PERSISTENT_VOLUME_CLAIMS, namespace, wanted=claims),
        reader.list(PERSISTENT_VOLUMES, wanted=claims),
        reader.list(STORAGE_CLASSES, wanted=claims),
    )
    return RunObjects(
        job=run.job,
        pod=pod,
        events=[*events, *claim_events],
        quotas=quotas,
        limit_ranges=limit_ranges,
        neighbours=neighbours,
        claims=its_claims,
        volumes=volumes,
        classes=classes,
        is_yard=target.is_yard,
    )


def _telling_pod(run: Run) -> Manifest | None:
    """The pod that keeps the run where it is: the furthest behind, else the one that failed first."""
    alive = [pod for pod in run.pods if is_alive(pod)]
    if alive:
        return min(alive, key=_progress)
    failed = [pod for pod in run.pods if pod.get("status", {}).get("phase") == "Failed"]
    if run.state.reason == Reason.BACK_OFF:
        return failed[-1] if failed else None
    if run.state.state in ENDED:
        return min(failed, key=_finished, default=run.pods[-1] if run.pods else None)
    return None


def _progress(pod: Manifest) -> int:
    if not pod["spec"].get("nodeName"):
        return 0
    return 1 if container_state(pod, "running") is None else 2


def _finished(pod: Manifest) -> str:
    return str((container_state(pod, "terminated") or {}).get("finishedAt") or "~")


def _ended(run: Run, pod: Manifest | None, output: Sequence[str]) -> Ended | None:
    """How the run, or its last attempt, failed."""
    from gpuyard.explain.run_objects import Ended

    state = run.state
    tail = tuple(line[:_LONGEST] for line in output if line.strip())[-_TAIL_LINES:]
    if state.state == "failed":
        return Ended(state.reason, state.message, state.exit_code, tail)
    if state.reason == Reason.BACK_OFF and pod is not None and not is_alive(pod):
        return Ended(why_failed(pod)[0], state.message, exit_code(pod), tail)
    return None


def _explain(
    objects: RunObjects, nodes: Sequence[Manifest], pods: Sequence[Manifest], *, incomplete: bool
) -> Explanation:
    from gpuyard.explain.placement import explain
    from gpuyard.explain.steps.volumes import required_places
    from gpuyard.scheduling.requests import PodRequest
    from gpuyard.scheduling.snapshot import Snapshot

    pod = objects.pod
    request = PodRequest.of(pod) if pod and is_alive(pod) else PodRequest.of_template(objects.job)
    request = dataclasses.replace(request, volumes=required_places(objects))
    return dataclasses.replace(explain(request, Snapshot.of(nodes, pods)), incomplete=incomplete)


def _missing_kind(ladder: Ladder) -> str:
    """The kind of which one that isn't there holds the run."""
    from gpuyard.explain.missing_objects import KIND_TO_LIST

    finding = ladder.blocking
    return KIND_TO_LIST.get(finding.cause, "") if finding else ""


def _scope(target: Target, kind: str) -> str | None:
    return target.namespace if _NAMED[kind].namespaced else None
