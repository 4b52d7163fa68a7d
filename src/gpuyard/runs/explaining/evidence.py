"""Reading what tells why a run waits or failed: the objects that `explain` judges, as far as the user may."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuyard.explain.run_objects import RunObjects
from gpuyard.explain.steps.pod_group import pod_group_name
from gpuyard.kube.nodes import disk_pressure_text
from gpuyard.kube.objects import (
    CONFIG_MAPS,
    EVENTS,
    LIMIT_RANGES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_GROUPS,
    PODS,
    PRIORITY_CLASSES,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_QUOTAS,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    Manifest,
    annotations_of,
    key_of,
    labels_of,
    uid_of,
)
from gpuyard.kube.storage import claims_of
from gpuyard.kube.wellknown import ANNOTATION_COMPLETION_INDEX, LABEL_KUEUE_QUEUE, LABEL_PART_OF
from gpuyard.runs.explaining.reader import Reader
from gpuyard.runs.run import ENDED, Run, is_alive
from gpuyard.runs.target import Target
from gpuyard.tenancy.names import PART_OF
from gpuyard.workloads.outcome import container_state

if TYPE_CHECKING:
    from gpuyard.runs.explaining.queue import QueueFacts

#: Kinds whose names are looked up when one that is named isn't there. Of Secrets the values would come, too.
NAMED_KINDS = {
    "ServiceAccount": SERVICE_ACCOUNTS,
    "PriorityClass": PRIORITY_CLASSES,
    "RuntimeClass": RUNTIME_CLASSES,
    "ConfigMap": CONFIG_MAPS,
}


@dataclass(frozen=True)
class Evidence:
    """What was read about one run.

    Attributes:
        objects: the run's own objects and those of its namespace.
        nodes: every node, for a run that waits for one; empty for other runs.
        pods: what is placed on them: the pods of all namespaces, or those that the user may list.
        waits_for_node: whether the nodes' arithmetic says something: it has no node, and nodes were read.
        incomplete: the user may not list the pods of all namespaces.
    """

    objects: RunObjects
    nodes: Sequence[Manifest]
    pods: Sequence[Manifest]
    waits_for_node: bool
    incomplete: bool


async def read_evidence(target: Target, run: Run) -> Evidence:
    """Reads it, with as many questions at once as there are.

    Raises:
        ConnectionFailed, ApiError: the API doesn't answer; what it forbids is left out.
    """
    reader = Reader(target)
    pod = decisive_pod(run)
    placed = pod is not None and is_alive(pod) and bool(pod["spec"].get("nodeName"))
    # An elastic run goes on without those of its pods that wait.
    may_wait = run.state.state == "pending" or (run.state.state == "running" and run.state.pods is not None)
    waits = may_wait and not placed
    nodes, its_node, everywhere, objects = await asyncio.gather(
        reader.list(NODES, wanted=waits),
        reader.node_of(pod),
        reader.list(PODS, wanted=waits),
        _read_objects(reader, target, run, pod),
    )
    incomplete = "all pods" in reader.unreadable
    around = [its_node] if its_node else nodes if target.is_yard else ()
    return Evidence(
        dataclasses.replace(
            objects,
            node=its_node,
            nodes=nodes,
            full_disk=next(filter(None, map(disk_pressure_text, around)), ""),
            agents=[p for p in everywhere if labels_of(p).get(LABEL_PART_OF) == PART_OF],
            unreadable=frozenset(reader.unreadable),
        ),
        nodes,
        objects.neighbours if incomplete else everywhere,
        waits and "all nodes" not in reader.unreadable and not run.job["spec"].get("suspend"),
        incomplete,
    )


async def read_names(target: Target, kind: str) -> list[str]:
    """The names that there are of one of NAMED_KINDS; none where the user may not list them."""
    resource = NAMED_KINDS[kind]
    namespace = target.namespace if resource.namespaced else None
    return [key_of(item).name for item in await Reader(target).list(resource, namespace)]


def decisive_pod(run: Run) -> Manifest | None:
    """The pod that keeps the run where it is: the furthest behind, else the one that failed first."""
    alive = [pod for pod in run.pods if is_alive(pod)]
    if alive:
        return min(alive, key=_progress)
    failed = [pod for pod in run.pods if pod.get("status", {}).get("phase") == "Failed"]
    if run.state.state == "pending":
        return failed[-1] if failed else None
    if run.state.state == "succeeded":
        ended_well = [pod for pod in run.pods if pod.get("status", {}).get("phase") == "Succeeded"]
        return ended_well[-1] if ended_well else None
    if run.state.state in ENDED:
        return min(failed, key=_finished, default=run.pods[-1] if run.pods else None)
    return None


def attempt_before(run: Run, pod: Manifest | None) -> Manifest | None:
    """The last that failed in the pod's place."""
    if pod is None:
        return None
    index = annotations_of(pod).get(ANNOTATION_COMPLETION_INDEX)
    failed = [
        other
        for other in run.pods
        if other.get("status", {}).get("phase") == "Failed"
        and annotations_of(other).get(ANNOTATION_COMPLETION_INDEX) == index
    ]
    return failed[-1] if failed else None


async def _read_objects(reader: Reader, target: Target, run: Run, pod: Manifest | None) -> RunObjects:
    namespace = target.namespace
    if run.state.state in ENDED:
        return RunObjects(run.job, pod, is_yard=target.is_yard)
    unplaced = pod is None or not pod["spec"].get("nodeName")
    spec = pod["spec"] if pod else run.job["spec"]["template"]["spec"]
    claims = unplaced and any(claims_of(spec, key_of(pod).name if pod else ""))
    devices = unplaced and bool(spec.get("resourceClaims"))
    about = f"involvedObject.uid={uid_of(pod if pod else run.job)}"
    of_claims = "involvedObject.kind=PersistentVolumeClaim"
    (
        (
            events,
            claim_events,
            quotas,
            limit_ranges,
            neighbours,
            its_claims,
            volumes,
            classes,
            resource_claims,
            claim_templates,
        ),
        queue,
        group,
    ) = await asyncio.gather(
        asyncio.gather(
            reader.list(EVENTS, namespace, field_selector=about),
            reader.list(EVENTS, namespace, field_selector=of_claims, wanted=claims),
            reader.list(RESOURCE_QUOTAS, namespace, wanted=pod is None),
            reader.list(LIMIT_RANGES, namespace, wanted=pod is None),
            reader.list(PODS, namespace, wanted=unplaced),
            reader.list(PERSISTENT_VOLUME_CLAIMS, namespace, wanted=claims),
            reader.list(PERSISTENT_VOLUMES, wanted=claims),
            reader.list(STORAGE_CLASSES, wanted=claims),
            reader.list(RESOURCE_CLAIMS, namespace, wanted=devices),
            reader.list(RESOURCE_CLAIM_TEMPLATES, namespace, wanted=devices),
        ),
        _read_queue(reader, run.job),
        _read_group(reader, namespace, pod_group_name(spec) if unplaced else ""),
    )
    return RunObjects(
        job=run.job,
        pod=pod,
        attempt_before=attempt_before(run, pod),
        events=[*events, *claim_events],
        quotas=quotas,
        limit_ranges=limit_ranges,
        neighbours=neighbours,
        claims=its_claims,
        volumes=volumes,
        classes=classes,
        pod_group=group,
        resource_claims=resource_claims,
        claim_templates=claim_templates,
        workloads=queue.workloads if queue else (),
        has_kueue=queue is None or queue.is_served,
        place=queue.place if queue else "",
        is_yard=target.is_yard,
    )


async def _read_queue(reader: Reader, job: Manifest) -> QueueFacts | None:
    """What Kueue knows of a Job that it may hold."""
    queue = labels_of(job).get(LABEL_KUEUE_QUEUE)
    if not job["spec"].get("suspend") or not queue:
        return None
    from gpuyard.runs.explaining.queue import read_queue

    return await read_queue(reader, job, queue)


async def _read_group(reader: Reader, namespace: str, name: str) -> Manifest | None:
    found = await reader.list(
        POD_GROUPS, namespace, field_selector=f"metadata.name={name}", wanted=bool(name)
    )
    return found[0] if found else None


def _progress(pod: Manifest) -> int:
    if not pod["spec"].get("nodeName"):
        return 0
    return 1 if container_state(pod, "running") is None else 2


def _finished(pod: Manifest) -> str:
    return str((container_state(pod, "terminated") or {}).get("finishedAt") or "~")
