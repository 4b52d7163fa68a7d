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

#: Who makes the pods of a Job that names nobody.
_JOB_CONTROLLER = "kubernetes.io/job-controller"
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
    manager = job["spec"].get("managedBy") or _JOB_CONTROLLER
    if pod is None and manager != _JOB_CONTROLLER:
        return Finding(
            Step.JOB,
            Cause.MANAGED,
            f"its pods are to come from {manager} (managedBy), which has made none",
            Owner("Job", name, objects.namespace),
            remedies=(Remedy(f"see that {manager} runs", By.OPERATOR),),
        )
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
    command = f"""kubectl patch job {name} -n {objects.namespace} -p '{{"spec":{{"suspend":false}}}}'"""
    queue = labels_of(objects.job).get(LABEL_KUEUE_QUEUE)
    if queue and objects.has_kueue:
        return _queued(objects, queue)
    if queue:
        return Finding(
            Step.JOB,
            Cause.NO_KUEUE,
            f"its Job is suspended and asks for Kueue's queue {queue}, and Kueue isn't installed here",
            owner,
            (f"label {LABEL_KUEUE_QUEUE}={queue}",),
            (Remedy("let it go on without a queue", By.YOU, command), Remedy("install Kueue", By.OPERATOR)),
        )
    remedy = Remedy("let it go on", By.YOU, command)
    return Finding(Step.JOB, Cause.SUSPENDED, "somebody suspended its Job", owner, (), (remedy,))


def _queued(objects: RunObjects, queue: str) -> Finding:
    command = f"kubectl get workloads -n {objects.namespace}"
    remedies = [Remedy("see who waits in the queue", command=command)]
    text = f"its Job is suspended until Kueue admits it from queue {queue}"
    if off := [key_of(w).name for w in objects.workloads if (w.get("spec") or {}).get("active") is False]:
        text = f"its Job is suspended, and Kueue is told not to admit it from queue {queue}"
        patch = f"""-n {objects.namespace} --type=merge -p '{{"spec":{{"active":true}}}}'"""
        remedies.insert(0, Remedy("let Kueue admit it", By.YOU, f"kubectl patch workload {off[0]} {patch}"))
    holder = Owner("LocalQueue", queue, objects.namespace)
    return Finding(Step.JOB, Cause.QUEUED, text, holder, tuple(_kueue_says(objects)), tuple(remedies))


def _kueue_says(objects: RunObjects) -> Iterator[str]:
    """In its own words: what doesn't fit, or why it was evicted."""
    for workload in objects.workloads:
        for type_, status in _KUEUE_HOLDS.items():
            condition = find_condition(workload, type_) or {}
            if condition.get("status") == status and condition.get("message"):
                yield f"Kueue says: {condition['message']}"
        for check in (workload.get("status") or {}).get("admissionChecks") or ():
            if check.get("state") != "Ready":
                message = f": {check['message']}" if check.get("message") else ""
                yield f"Kueue says: admission check {check['name']} is {check.get('state')}{message}"
    if objects.place:
        yield f"Kueue says: {objects.place}"
