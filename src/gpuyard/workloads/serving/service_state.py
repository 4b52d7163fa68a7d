"""What state a service is in: derived from its Deployment, pods, Service and autoscaler alone, so that every
reader says the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from gpuyard.gpus.resources import gpus_in, pod_gpu_resources
from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import Manifest, annotations_of, labels_of
from gpuyard.kube.pods import container_statuses, is_terminal
from gpuyard.kube.timestamps import format_time, parse_time
from gpuyard.kube.wellknown import ANNOTATION_STOPPED_AT, LABEL_RUN, LABEL_SIMULATED
from gpuyard.workloads.outcome import pod_verdict


class Phase(StrEnum):
    """How far a service is."""

    #: No replica is ready yet.
    STARTING = "starting"
    #: As many replicas as it wants are there, or fewer: `ready` says how many answer.
    RUNNING = "running"
    #: Replicas of a new template take the place of old ones.
    UPDATING = "updating"
    #: It has no replica, and the next request starts one.
    IDLE = "idle"
    #: An update, or the first start, made no progress for too long.
    FAILED = "failed"
    #: Its user wants no replica.
    STOPPED = "stopped"


#: Of a Deployment's condition Progressing.
TIMED_OUT = "ProgressDeadlineExceeded"


@dataclass(frozen=True)
class ServiceState:
    """One service as `ps` lists it.

    Attributes:
        message: one sentence with the details, or empty.
        ready: replicas that get requests.
        wanted: replicas that are to be there now.
        updated: replicas of the newest template.
        least, most: between which it is scaled by its load; None where their number is fixed.
        address: URL at which it is reached: of a yard from this machine, of a cluster from within; empty
            while it has none.
        gpus, gpu_resources: of all replicas that are wanted, as in RunState.
        simulated: whether its replicas have simulated GPUs.
        nodes: where its replicas are, sorted.
        priority: its PriorityClass, if any.
    """

    name: str
    phase: Phase
    message: str
    ready: int
    wanted: int
    updated: int
    least: int | None
    most: int | None
    address: str
    gpus: int
    gpu_resources: Mapping[str, int]
    simulated: bool
    nodes: tuple[str, ...]
    priority: str | None
    submitted_at: datetime | None

    @property
    def replicas_text(self) -> str:
        """`2/3`; of one that is scaled `2/3 of 1..8`."""
        bounds = f" of {self.least}..{self.most}" if self.most is not None else ""
        return f"{self.ready}/{self.wanted}{bounds}"

    def to_json(self) -> dict[str, Any]:
        """The stable keys of `ps -o json`, those that a run has too as far as they mean something."""
        return {
            "name": self.name,
            "kind": "Deployment",
            "state": str(self.phase),
            "message": self.message,
            "replicas": {
                "ready": self.ready,
                "wanted": self.wanted,
                "updated": self.updated,
                "least": self.least,
                "most": self.most,
            },
            "address": self.address or None,
            "gpus": self.gpus,
            "gpu_resources": dict(self.gpu_resources),
            "simulated": self.simulated,
            "nodes": list(self.nodes),
            "priority": self.priority,
            "submitted_at": format_time(self.submitted_at) if self.submitted_at else None,
        }


def service_state(
    deployment: Mapping[str, Any],
    pods: Iterable[Manifest],
    *,
    service: Mapping[str, Any] | None = None,
    bounds: tuple[int, int] | None = None,
    simulated_nodes: Collection[str] = (),
    is_yard: bool = False,
) -> ServiceState:
    """The state of the service that this Deployment carries.

    Args:
        deployment: the Deployment.
        pods: of its ReplicaSets, in any order.
        service: the Service, if it is there.
        bounds: between which an autoscaler keeps it.
        simulated_nodes: names of nodes whose GPUs are simulated.
        is_yard: whether the Service's address is one of this machine.
    """
    pods = list(pods)
    wanted = _wanted(deployment)
    template = deployment["spec"]["template"]["spec"]
    resources = {name: count * wanted for name, count in pod_gpu_resources(template).items()}
    status = deployment.get("status") or {}
    phase, message = _phase(deployment, pods, bounds, is_yard)
    created = deployment["metadata"].get("creationTimestamp")
    here = {pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}
    return ServiceState(
        name=labels_of(deployment).get(LABEL_RUN) or deployment["metadata"]["name"],
        phase=phase,
        message=message,
        ready=int(status.get("readyReplicas") or 0),
        wanted=wanted,
        updated=int(status.get("updatedReplicas") or 0),
        least=bounds[0] if bounds else None,
        most=bounds[1] if bounds else None,
        address=address_of(service, is_yard=is_yard),
        gpus=gpus_in(resources),
        gpu_resources=resources,
        simulated=bool(pod_gpu_resources(template)) and any(_is_simulated(p, simulated_nodes) for p in pods),
        nodes=tuple(sorted(here)),
        priority=template.get("priorityClassName"),
        submitted_at=parse_time(created) if created else None,
    )


def address_of(service: Mapping[str, Any] | None, *, is_yard: bool) -> str:
    """The URL of a Service's first port; empty while it has no address."""
    ports = (service or {}).get("spec", {}).get("ports") or ()
    if service is None or not ports:
        return ""
    metadata, port = service["metadata"], ports[0].get("port")
    if not is_yard:
        return f"http://{metadata['name']}.{metadata.get('namespace', 'default')}.svc:{port}"
    ip = service["spec"].get("clusterIP")
    return f"http://{ip}:{port}" if ip and ip != "None" else ""


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the pod gets requests."""
    return condition_is_true(pod, "Ready") and not pod["metadata"].get("deletionTimestamp")


def replica_text(pod: Manifest) -> str:
    """`serve-x7k2q: ` and why it isn't ready."""
    return f"{pod['metadata']['name']}: {unready_text(pod)}"


def unready_text(pod: Mapping[str, Any]) -> str:
    """Why a replica isn't ready, in one sentence."""
    verdict = pod_verdict(pod)
    if verdict.message:
        return f"{verdict.reason}: {verdict.message}"
    if verdict.state != "running":
        return str(verdict.reason)
    restarts = max((int(status.get("restartCount") or 0) for status in container_statuses(pod)), default=0)
    again = f" ({restarts} restart{'s' if restarts > 1 else ''})" if restarts else ""
    return f"it runs, and doesn't say yet that it is ready{again}"


def unready_pods(pods: Iterable[Manifest]) -> list[Manifest]:
    """Replicas that aren't ready and aren't leaving, the one to look at first: those that have a node before
    those that wait for one, and the oldest first."""
    waiting = [pod for pod in pods if is_staying(pod) and not is_ready(pod)]
    return sorted(waiting, key=lambda pod: (not pod["spec"].get("nodeName"), *_creation(pod)))


def _phase(
    deployment: Mapping[str, Any], pods: Collection[Manifest], bounds: tuple[int, int] | None, is_yard: bool
) -> tuple[Phase, str]:
    status, wanted = deployment.get("status") or {}, _wanted(deployment)
    ready, total = int(status.get("readyReplicas") or 0), int(status.get("replicas") or 0)
    old = total - int(status.get("updatedReplicas") or 0)
    if not wanted:
        return _without_replicas(deployment, pods, bounds, is_yard)
    unready = unready_pods(pods)
    why = replica_text(unready[0]) if unready else _refused(deployment)
    progressing = find_condition(deployment, "Progressing") or {}
    if progressing.get("reason") == TIMED_OUT:
        goes_on = f"{ready} earlier replica{'s go' if ready > 1 else ' goes'} on serving; " if ready else ""
        return Phase.FAILED, f"its replicas didn't get ready in time; {goes_on}{why}".rstrip("; ")
    is_new = int(status.get("observedGeneration") or 0) < int(deployment["metadata"].get("generation") or 0)
    if ready and (old > 0 or is_new):
        return Phase.UPDATING, why
    if not ready:
        return Phase.STARTING, why
    return Phase.RUNNING, why if ready < wanted else ""


def _without_replicas(
    deployment: Mapping[str, Any], pods: Collection[Manifest], bounds: tuple[int, int] | None, is_yard: bool
) -> tuple[Phase, str]:
    leaving = sum(not is_terminal(pod) for pod in pods)
    still = f"{leaving} replica{'s finish' if leaving > 1 else ' finishes'} what they have" if leaving else ""
    if bounds and bounds[0] == 0 and not is_stopped(deployment):
        # A cluster has nobody who would hold a request.
        wakes = (
            "the next request starts a replica" if is_yard else "what its target measures starts a replica"
        )
        return Phase.IDLE, still or wakes
    return Phase.STOPPED, still


def is_stopped(deployment: Mapping[str, Any]) -> bool:
    """Whether its user stopped it, and nobody has scaled it up since."""
    return ANNOTATION_STOPPED_AT in annotations_of(deployment) and not _wanted(deployment)


def _refused(deployment: Mapping[str, Any]) -> str:
    """Why the API takes no pod of it, as a quota does."""
    failure = find_condition(deployment, "ReplicaFailure") or {}
    return str(failure.get("message", "")) if failure.get("status") == "True" else ""


def _wanted(deployment: Mapping[str, Any]) -> int:
    return int(deployment["spec"].get("replicas", 1))


def is_staying(pod: Mapping[str, Any]) -> bool:
    """Whether the pod has not ended, and nobody has asked it to."""
    return not is_terminal(pod) and not pod["metadata"].get("deletionTimestamp")


def _creation(pod: Mapping[str, Any]) -> tuple[str, str]:
    return str(pod["metadata"].get("creationTimestamp", "")), str(pod["metadata"].get("name", ""))


def _is_simulated(pod: Mapping[str, Any], simulated_nodes: Collection[str]) -> bool:
    return (
        annotations_of(pod).get(LABEL_SIMULATED) == "true" or pod["spec"].get("nodeName") in simulated_nodes
    )
