"""What `gpuyard status` tells of a cluster: whether gpuyard is installed there, all of it, and works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gpuyard.client.apply import find
from gpuyard.client.rest import RestApi
from gpuyard.client.server_version import cluster_version, version_text
from gpuyard.gpus.resources import allocatable_gpus, capacity_gpus, has_simulated_gpus
from gpuyard.installing.install import installed
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.nodes import not_ready_text
from gpuyard.kube.objects import (
    DAEMON_SETS,
    NAMESPACES,
    NODES,
    PODS,
    Manifest,
    ObjectKey,
    key_of,
    labels_of,
)
from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.tenancy.installed import install_state
from gpuyard.tenancy.names import AGENT, SELECTOR
from gpuyard.tenancy.options import ADMISSION_SINCE


@dataclass(frozen=True)
class AgentCounts:
    """On how many nodes an agent is ready, of how many that are to have one, or have one still."""

    ready: int
    wanted: int


@dataclass(frozen=True)
class NodeStatus:
    """GPUs of one node: `gpus` that are healthy, of `gpus_capacity`. `not_ready` is None when it is ready."""

    name: str
    gpu_model: str | None
    simulated: bool
    gpus: int
    gpus_capacity: int
    not_ready: str | None


@dataclass(frozen=True)
class ClusterStatus:
    """A cluster. Its fields are the documented keys of `gpuyard status --context … -o json`.

    Attributes:
        version: of Kubernetes.
        namespace: of the install; None without one.
        missing: what a half-done install lacks, `Kind name`.
        changed: what isn't as an install with these options makes it, and where.
        image: of the agents; None without any.
    """

    api: str
    version: str
    installed: bool
    namespace: str | None
    missing: Sequence[str]
    changed: Sequence[str]
    image: str | None
    agents: AgentCounts
    nodes: Sequence[NodeStatus]


async def cluster_status(api: RestApi) -> ClusterStatus:
    """What is installed there, what of it is missing, and which GPUs nodes have."""
    # First, since it tells a Kubernetes from another server, whose 404 would be any object's.
    version = await cluster_version(api)
    found, nodes = await asyncio.gather(installed(api), api.list(NODES))
    namespace = next((key_of(item).name for kind, item in found if kind == NAMESPACES), "")
    agent = await find(api, DAEMON_SETS, ObjectKey(namespace, AGENT)) if namespace else None
    state = install_state(found, confine=version >= ADMISSION_SINCE)
    return ClusterStatus(
        api=api.server,
        version=version_text(version),
        installed=bool(found),
        namespace=namespace or None,
        missing=state.missing,
        changed=state.changed,
        image=_image(agent),
        agents=await _agents(api, agent),
        nodes=[_node(node) for node in nodes.items],
    )


async def _agents(api: RestApi, agent: Manifest | None) -> AgentCounts:
    if agent is None:
        return AgentCounts(0, 0)
    # `numberReady` leaves out a node that was tainted when it had an agent already; it keeps that.
    pods = (await api.list(PODS, key_of(agent).namespace, label_selector=SELECTOR)).items
    ready = {pod["spec"].get("nodeName") for pod in pods if condition_is_true(pod, "Ready")}
    status = agent.get("status", {})
    wanted = status.get("desiredNumberScheduled", 0) + status.get("numberMisscheduled", 0)
    return AgentCounts(len(ready), wanted)


def _image(agent: Manifest | None) -> str | None:
    return str(agent["spec"]["template"]["spec"]["containers"][0]["image"]) if agent else None


def _node(node: Manifest) -> NodeStatus:
    return NodeStatus(
        name=key_of(node).name,
        gpu_model=labels_of(node).get(LABEL_GPU_MODEL),
        simulated=has_simulated_gpus(node),
        gpus=allocatable_gpus(node),
        gpus_capacity=capacity_gpus(node),
        not_ready=not_ready_text(node) or None,
    )
