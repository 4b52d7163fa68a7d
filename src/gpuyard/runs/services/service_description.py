"""Everything that is known about one service, read once: for `show`, as values and as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import EVENTS, Manifest, annotations_of, uid_of
from gpuyard.kube.pods import container_statuses, listening_port
from gpuyard.kube.wellknown import ANNOTATION_COMMAND, ANNOTATION_REVISION, IMAGE_PROCESS
from gpuyard.runs.object_events import event_json, in_order
from gpuyard.runs.services.explaining import scaling_lines, why_deaf
from gpuyard.runs.services.service import Service
from gpuyard.runs.services.traffic import Traffic, read_traffic
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import pod_verdict
from gpuyard.workloads.serving.service_state import is_ready, unready_text


@dataclass(frozen=True)
class Replica:
    """One pod of a service.

    Attributes:
        state: `running`, or why it isn't ready.
        address: where its program is to listen, as its node sees it; empty before it has an address.
    """

    pod: str
    state: str
    ready: bool
    restarts: int
    node: str
    address: str

    @classmethod
    def of(cls, pod: Manifest) -> Replica:
        """Reads a pod."""
        leaves = bool(pod["metadata"].get("deletionTimestamp"))
        verdict = "leaving" if leaves else str(pod_verdict(pod).state) if is_ready(pod) else unready_text(pod)
        ports = [port for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
        ip = (pod.get("status") or {}).get("podIP", "")
        restarts = (int(status.get("restartCount") or 0) for status in container_statuses(pod))
        return cls(
            pod=pod["metadata"]["name"],
            state=verdict,
            ready=is_ready(pod),
            restarts=max(restarts, default=0),
            node=pod["spec"].get("nodeName", ""),
            address=f"{ip}:{listening_port(pod, ports[0]['containerPort'])}" if ip and ports else "",
        )

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return {
            "pod": self.pod,
            "state": self.state,
            "ready": self.ready,
            "restarts": self.restarts,
            "node": self.node or None,
            "address": self.address or None,
        }


@dataclass(frozen=True)
class ServiceDescription:
    """A service and what there is about it.

    Attributes:
        traffic: None where nobody measures it.
        scaling: what its autoscaler says, one sentence each.
        events: of its Deployment and pods, oldest first.
        deaf: why nobody listens at its address; empty where somebody does, as far as is known.
    """

    service: Service
    traffic: Traffic | None
    scaling: Sequence[str]
    events: Sequence[Manifest]
    deaf: str = ""

    @property
    def replicas(self) -> list[Replica]:
        """In the order of their creation."""
        return [Replica.of(pod) for pod in self.service.pods]

    @property
    def image(self) -> str | None:
        """None of processes of a yard's host."""
        image = self.service.deployment["spec"]["template"]["spec"]["containers"][0].get("image")
        return None if image == IMAGE_PROCESS else image

    @property
    def revision(self) -> str:
        """Of the newest template, as `rollback` counts them."""
        return annotations_of(self.service.deployment).get(ANNOTATION_REVISION, "")

    def to_json(self) -> dict[str, Any]:
        """The keys of `ps -o json`, and those of `show -o json` besides."""
        return {
            **self.service.state.to_json(),
            "command": annotations_of(self.service.deployment).get(ANNOTATION_COMMAND),
            "image": self.image,
            "revision": self.revision or None,
            "scaling": list(self.scaling),
            "deaf": self.deaf or None,
            "traffic": self.traffic.to_json() if self.traffic else None,
            "pods": [one.to_json() for one in self.replicas],
            "events": [event_json(event) for event in self.events],
        }


async def describe_service(target: Target, service: Service) -> ServiceDescription:
    """Reads all of it."""
    traffic, events, deaf = await asyncio.gather(
        read_traffic(target), _events(target, service), why_deaf(target, service)
    )
    own = traffic.get((service.namespace, service.name))
    return ServiceDescription(service, own, scaling_lines(service), events, deaf)


async def _events(target: Target, service: Service) -> list[Manifest]:
    objects = (service.deployment, service.autoscaler, service.front, *service.pods)
    uids = {uid_of(one) for one in objects if one is not None}
    try:
        found = (await target.api.list(EVENTS, service.namespace)).items
    except errors.Forbidden:
        return []
    return in_order([event for event in found if event["involvedObject"].get("uid") in uids])
