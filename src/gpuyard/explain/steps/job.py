"""The Job itself: told to wait, or between two attempts."""

from __future__ import annotations

from collections.abc import Iterator

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.run_objects import RunObjects
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import key_of, labels_of
from gpuyard.kube.wellknown import LABEL_KUEUE_QUEUE
from gpuyard.workloads.outcome import is_stopped

#: Conditions of a Workload that hold it while they have this status, the most telling first.
_KUEUE_HOLDS = {"QuotaReserved": "False", "Evicted": "True"}


def find_job(objects: RunObjects) -> Finding | None:
    """Whether the Job or its pod was told to wait."""
    job, pod = objects.job, objects.pod
    name = key_of(job).name
    if job["metadata"].get("deletionTimestamp"):
        return Finding(
            Step.JOB, Cause.DELETING, "its Job is being deleted", Owner("Job", name, objects.namespace)
        )
    # What its user stopped before it had started is suspended, and held by nobody.
    if job["spec"].get("suspend") and not is_stopped(job):
        return _suspended(objects, name)
    gates = [str(gate["name"]) for gate in (pod or {}).get("spec", {}).get("schedulingGates") or ()]
    if pod is not None and gates:
        return Finding(
            Step.JOB,
            Cause.GATED,
            f"its pod has the scheduling gate {', '.join(gates)}",
            Owner("Pod", key_of(pod).name, objects.namespace),
            remedies=(Remedy("whoever set the gate removes it when the pod may go on"),),
        )
    return None


def _suspended(objects: RunObjects, name: str) -> Finding:
    owner = Owner("Job", name, objects.namespace)
    if queue := labels_of(objects.job).get(LABEL_KUEUE_QUEUE):
        text = f"its Job is suspended until Kueue admits it from queue {queue}"
        command = f"kubectl get workloads -n {objects.namespace}"
        remedy = Remedy("see its place in the queue", command=command)
        holder = Owner("LocalQueue", queue, objects.namespace)
        return Finding(Step.JOB, Cause.QUEUED, text, holder, tuple(_kueue_says(objects)), (remedy,))
    command = f"""kubectl patch job {name} -n {objects.namespace} -p '{{"spec":{{"suspend":false}}}}'"""
    remedy = Remedy("let it go on", By.YOU, command)
    return Finding(Step.JOB, Cause.SUSPENDED, "somebody suspended its Job", owner, (), (remedy,))


def _kueue_says(objects: RunObjects) -> Iterator[str]:
    """In its own words: what doesn't fit, or why it was evicted."""
    for workload in objects.workloads:
        for type_, status in _KUEUE_HOLDS.items():
            condition = find_condition(workload, type_) or {}
            if condition.get("status") == status and condition.get("message"):
                yield f"Kueue says: {condition['message']}"
