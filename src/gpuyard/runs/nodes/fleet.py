"""All nodes with GPUs and what runs on them: read once, or followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from gpuyard import errors
from gpuyard.gpus.faults import no_gpus_text, node_faults
from gpuyard.gpus.occupants import node_occupants
from gpuyard.gpus.resources import capacity_gpus, has_simulated_gpus, pod_gpus
from gpuyard.kube.nodes import not_ready_text
from gpuyard.kube.objects import NAMESPACES, NODES, PODS, Manifest, labels_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.wellknown import LABEL_GPU_COUNT, LABEL_GPU_MODEL, LABEL_GPU_PRODUCT, LABEL_RUN
from gpuyard.runs.nodes.agent_metrics import AgentMetrics, NodeMetrics
from gpuyard.runs.nodes.gpu_metrics import gpus_of
from gpuyard.runs.nodes.gpu_node import GpuNode, GpuUser, RunLoad, run_loads
from gpuyard.runs.run import Run, has_ranks, rank_of_name
from gpuyard.runs.target import Target
from gpuyard.tenancy.names import AGENT_LABELS, NAMESPACE, SELECTOR

_LABEL_DRIVER = "nvidia.com/cuda.driver-version.full"
_LABEL_CUDA = "nvidia.com/cuda.runtime-version.full"
_AGENTS = ",".join(f"{name}={value}" for name, value in AGENT_LABELS.items())


@dataclass(frozen=True)
class Fleet:
    """Nodes with GPUs, by name, and who has their GPUs.

    Attributes:
        partial: why not all holders of GPUs are in it; empty when they are.
    """

    nodes: tuple[GpuNode, ...]
    runs: tuple[RunLoad, ...]
    partial: str = ""

    @classmethod
    def of(
        cls,
        nodes: Iterable[Manifest],
        pods: Iterable[Manifest],
        metrics: Callable[[str], NodeMetrics],
        partial: str = "",
    ) -> Fleet:
        """From Nodes and Pods as the API serves them, and what each node's agent says."""
        on_node: dict[str, list[Manifest]] = {}
        for pod in pods:
            if (node := pod["spec"].get("nodeName")) and not is_terminal(pod):
                on_node.setdefault(node, []).append(pod)
        names = {node["metadata"]["name"]: node for node in nodes}
        found = tuple(
            _node(node, on_node.get(name, ()), metrics(name)) for name, node in sorted(names.items())
        )
        return cls(found, tuple(run_loads(found)), partial)

    def of_run(self, run: Run) -> Fleet:
        """The GPUs that one run has, and who else is on them; of several pods each rank by itself."""
        ranked = has_ranks(run)

        def is_own(user: GpuUser) -> bool:
            return (user.namespace, user.run) == (run.job["metadata"]["namespace"], run.name)

        def with_rank(user: GpuUser) -> GpuUser:
            return replace(user, rank=rank_of_name(user.pod)) if ranked and is_own(user) else user

        nodes = []
        for node in self.nodes:
            if not any(map(is_own, (*node.users, *(user for gpu in node.gpus for user in gpu.all_users)))):
                continue
            gpus = tuple(gpu.with_users(with_rank) for gpu in node.gpus if any(map(is_own, gpu.all_users)))
            faults = tuple(gpu.fault for gpu in gpus if gpu.fault)
            count = len(gpus) or node.gpu_count
            users = tuple(map(with_rank, node.users))
            nodes.append(replace(node, gpus=gpus, faults=faults, gpu_count=count, users=users))
        loads = tuple(load for load in run_loads(nodes) if is_own(load.user))
        return Fleet(tuple(nodes), loads, self.partial)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "nodes": [node.to_json() for node in self.nodes],
            "runs": [run.to_json() for run in self.runs],
            "partial": self.partial or None,
        }


def _node(node: Manifest, pods: Collection[Manifest], metrics: NodeMetrics) -> GpuNode:
    labels, faults, occupants = labels_of(node), node_faults(node), node_occupants(node)
    runs = {
        (pod["metadata"]["namespace"], pod["metadata"]["name"]): labels_of(pod).get(LABEL_RUN, "")
        for pod in pods
    }
    count = labels.get(LABEL_GPU_COUNT, "")
    labelled = int(count) if count.isascii() and count.isdigit() else capacity_gpus(node)
    gpus = gpus_of(metrics.samples, faults, runs, occupants)
    return GpuNode(
        name=node["metadata"]["name"],
        not_ready=not_ready_text(node),
        # NVIDIA's label counts no split GPU with the strategy mixed, and parts with single.
        gpu_count=len(gpus) or labelled,
        model=labels.get(LABEL_GPU_MODEL) or labels.get(LABEL_GPU_PRODUCT, ""),
        simulated=has_simulated_gpus(node),
        driver_version=labels.get(_LABEL_DRIVER, ""),
        cuda_version=labels.get(_LABEL_CUDA, ""),
        faults=faults,
        occupants=occupants,
        gpus=gpus,
        users=tuple(_user(pod) for pod in pods if pod_gpus(pod["spec"])),
        unread=metrics.failure,
        none_because=no_gpus_text(node),
    )


def _user(pod: Manifest) -> GpuUser:
    metadata = pod["metadata"]
    return GpuUser(metadata["namespace"], metadata["name"], run=labels_of(pod).get(LABEL_RUN, ""))


def has_gpus(node: Manifest) -> bool:
    """Whether it is a GPU node, be they all gone now."""
    return bool(capacity_gpus(node) or labels_of(node).get(LABEL_GPU_COUNT) or no_gpus_text(node))


async def read_fleet(target: Target, name: str | None = None) -> Fleet:
    """All nodes with GPUs, or the one of this name; each is asked for its metrics once.

    Raises:
        UsageError: there is no node of this name.
        Forbidden: the user may not list nodes.
    """
    (listed, scope) = await asyncio.gather(target.api.list(NODES), _PodScope.find(target))
    nodes = [node for node in listed.items if (node["metadata"]["name"] == name if name else has_gpus(node))]
    if name and not nodes:
        raise _no_such_node(name, [node["metadata"]["name"] for node in listed.items])
    pods = (await target.api.list(PODS, scope.namespace)).items
    agents = [
        agent
        for namespace in scope.agents_in
        for agent in (await target.api.list(PODS, namespace, label_selector=_AGENTS)).items
    ]
    metrics = AgentMetrics(target)
    await metrics.ask([node["metadata"]["name"] for node in nodes if has_gpus(node)], agents)
    return Fleet.of(nodes, pods, metrics.of, scope.partial)


@asynccontextmanager
async def follow_fleet(target: Target) -> AsyncIterator[Callable[[], Fleet]]:
    """What there is now, whenever it is asked for, until the block ends: objects are watched, and agents
    asked every other second.

    Raises:
        Forbidden: the user may not list nodes.
    """
    from gpuyard.client.informer import Informer

    scope = await _PodScope.find(target)
    await target.api.list(
        NODES, label_selector="gpuyard.io/none"
    )  # Raises what an informer would go on after.
    nodes, pods = Informer(target.api, NODES), Informer(target.api, PODS, namespace=scope.namespace)
    agents = [
        Informer(target.api, PODS, namespace=namespace, label_selector=_AGENTS)
        for namespace in scope.agents_in
    ]
    informers = (nodes, pods, *agents)
    metrics = AgentMetrics(target)

    def see() -> tuple[list[Manifest], list[Manifest]]:
        return [node for node in nodes.objects.values() if has_gpus(node)], list(pods.objects.values())

    def see_agents() -> tuple[list[str], list[Manifest]]:
        names = [node["metadata"]["name"] for node in see()[0]]
        return names, [agent for informer in agents for agent in informer.objects.values()]

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(informer.run(), name=f"follow {informer.resource.plural}")
            for informer in informers
        ]
        for informer in informers:
            await informer.synced()
        tasks.append(group.create_task(metrics.keep_asking(see_agents), name="ask the agents"))
        try:
            yield lambda: Fleet.of(*see(), metrics.of, _behind(informers) or scope.partial)
        finally:
            for task in tasks:
                task.cancel()


def _behind(informers: Iterable[Any]) -> str:
    failure = next((informer.failure for informer in informers if informer.failure), None)
    return f"the API doesn't answer: {failure.message}" if failure else ""


@dataclass(frozen=True)
class _PodScope:
    """Which pods the user may see.

    Attributes:
        namespace: None for all.
        agents_in: namespaces of gpuyard where they may see the agents' pods. Elsewhere anybody can make a pod
            with an agent's labels.
    """

    namespace: str | None
    agents_in: tuple[str, ...] = ()
    partial: str = ""

    @classmethod
    async def find(cls, target: Target) -> _PodScope:
        agents_in = () if target.is_yard else await _agent_namespaces(target)
        if await _may_list_pods(target, None):
            return cls(None, agents_in)
        why = f"you may see pods of namespace {target.namespace} only"
        return cls(target.namespace, agents_in, f"{why}: the role gpuyard-capacity shows those of all")


async def _agent_namespaces(target: Target) -> tuple[str, ...]:
    try:
        # Only who runs the cluster may write the labels of namespaces.
        found = (await target.api.list(NAMESPACES, label_selector=SELECTOR)).items
    except errors.Forbidden:
        names = [NAMESPACE]
    else:
        names = [namespace["metadata"]["name"] for namespace in found]
    return tuple([name for name in names if await _may_list_pods(target, name)])


async def _may_list_pods(target: Target, namespace: str | None) -> bool:
    try:
        # No pod has this label: it is only about the right.
        await target.api.list(PODS, namespace, label_selector="gpuyard.io/none")
    except errors.Forbidden:
        return False
    return True


def _no_such_node(name: str, known: Collection[str]) -> errors.UsageError:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else "`gpuyard nodes` lists the nodes"
    return errors.UsageError(f"no node {name!r}", remedy=remedy)
