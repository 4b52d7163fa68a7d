"""Kueue's part of a Job that waits in one of its queues: its Workload, and its place in the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.kube.objects import WORKLOADS, Manifest, key_of, pending_workloads, uid_of
from gpuyard.kube.wellknown import LABEL_KUEUE_JOB_UID
from gpuyard.runs.explaining.reader import Reader


@dataclass(frozen=True)
class QueueFacts:
    """What was read of a queue.

    Attributes:
        workloads: what Kueue made for the Job.
        is_served: whether the server knows Kueue's objects.
        place: in words; empty where nobody says.
    """

    workloads: Sequence[Manifest] = ()
    is_served: bool = True
    place: str = ""


async def read_queue(reader: Reader, job: Manifest, queue: str) -> QueueFacts:
    """What Kueue knows of a Job that it may hold in a queue."""
    namespace = key_of(job).namespace
    selector = f"{LABEL_KUEUE_JOB_UID}={uid_of(job)}"
    for resource in WORKLOADS:
        if found := await reader.list(resource, namespace, label_selector=selector):
            return QueueFacts(found, place=await _read_place(reader, queue, namespace, found))
    return QueueFacts(is_served=not reader.unserved.issuperset(WORKLOADS))


async def _read_place(reader: Reader, queue: str, namespace: str, workloads: Sequence[Manifest]) -> str:
    names = {key_of(workload).name for workload in workloads}
    for resource in pending_workloads(queue):
        try:
            pending = await reader.list(resource, namespace)
        except errors.ApiError:
            continue  # An aggregated API may be away, without the rest of Kueue being so.
        for item in pending:
            if item["metadata"]["name"] in names:
                # They count from 0.
                own, all_ = item["positionInLocalQueue"] + 1, item["positionInClusterQueue"] + 1
                return f"place {own} in its LocalQueue, and {all_} in the ClusterQueue"
    return ""
