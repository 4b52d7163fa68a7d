"""One node of a yard: what hands its GPUs out, its agent, and its kubelet."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import Supervisor
from gpuyard.devices.gpu_locks import GpuLocks, yard_id
from gpuyard.devices.simulated.simulation import MOST_NODES, Simulation, parse_simulations
from gpuyard.kube.nodes import is_powered_off, with_power
from gpuyard.kube.objects import LEASES, NODES
from gpuyard.kube.wellknown import ANNOTATION_NO_GPUS
from gpuyard.local.daemon.agent_process import AgentProcess
from gpuyard.local.daemon.node_power import NodePower
from gpuyard.local.daemon.parts import Parts
from gpuyard.local.daemon.runtime_folder import RuntimeFolder
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.devices.pod_resources import PodResourcesServer
from gpuyard.local.kubelet.devices.registration import KUBELET_SOCKET
from gpuyard.local.kubelet.kubelet import Kubelet
from gpuyard.local.kubelet.machine import Machine, node_names
from gpuyard.local.kubelet.node import LEASES_NAMESPACE
from gpuyard.local.objects.verbs import utc_now
from gpuyard.local.paths import NodePaths, YardPaths
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.local.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodePlan:
    """What is decided of a node before it starts.

    Attributes:
        paths: of what is its own.
        simulation: its GPUs; None for the machine's.
    """

    number: int
    name: str
    paths: NodePaths
    simulation: Simulation | None


def plan_nodes(host: str, paths: YardPaths, simulate: str) -> tuple[NodePlan, ...]:
    """The nodes of a yard in order: one for each part of `simulate`, or one with the machine's GPUs.

    Raises:
        UsageError: `simulate` isn't right.
    """
    simulations = parse_simulations(simulate) or (None,)
    names = node_names(host, len(simulations))
    return tuple(
        NodePlan(number, name, paths.of_node(number), simulation)
        for number, (name, simulation) in enumerate(zip(names, simulations, strict=True), 1)
    )


class YardNode:
    """Owns a node's parts; each is started when what it stands on is there, and `Parts` ends them.

    Args:
        plan: of this node.
        yard: paths of the whole.
        settings: of the whole.
        locks: where GPUs are locked; None for nowhere.
        folder: is told which files of the node are to be there.
        on_agent: told the pid of each start of the agent, and 0 at each end.
    """

    def __init__(
        self,
        plan: NodePlan,
        yard: YardPaths,
        settings: Settings,
        locks: Path | None,
        folder: RuntimeFolder,
        on_agent: Callable[[int], None],
    ) -> None:
        self.plan = plan
        paths, name = plan.paths, plan.name
        settings = replace(settings, simulate=str(plan.simulation or ""))
        self._folder = folder
        #: It reports to the log alone, until there is an API that an Event could go to.
        self._supervisor = Supervisor()
        self._kubelet: Kubelet | None = None
        self._power = NodePower(name, self._lose_power)
        self.devices = DeviceManager(
            paths.device_plugins_dir,
            paths.device_checkpoint,
            utc_now,
            locks=None if locks is None else GpuLocks(locks, yard.data_dir, utc_now),
        )
        self._agent = AgentProcess.plugin(
            paths, name, settings, yard=yard_id(yard.data_dir), locks=locks, on_pid=on_agent
        )
        self._labeller = AgentProcess.labeller(paths, name, api_socket=yard.api_socket)
        self._exporter = AgentProcess.exporter(paths, name, settings)

    async def start_devices(self, parts: Parts) -> None:
        """What hands GPUs out: the device manager, the agent beside it, and the list of who holds which."""
        paths = self.plan.paths
        await self.devices.start()
        parts.at_end(self.devices.stop)
        # Early: its interpreter starts on the other core while this one goes on.
        paths.marks_file.unlink(missing_ok=True)  # of a daemon that was killed
        for name, process in (("agent", self._agent), ("labeller", self._labeller)):
            self._keep(parts, name, process.run)
        pod_resources = PodResourcesServer(self.devices, paths.pod_resources_socket)
        await pod_resources.start()
        parts.at_end(pod_resources.stop)
        self._folder.hold(paths.device_plugins_dir / KUBELET_SOCKET, self.devices.listen)
        self._folder.hold(paths.pod_resources_socket, pod_resources.start)
        self._folder.hold(paths.marks_file, self._agent.restart, lambda: self._power.is_on)

    def make_kubelet(
        self,
        api: KubeApi,
        machine: Machine,
        pods: Informer,
        nodes: Informer,
        supervisor: Supervisor,
        *,
        heartbeat_s: float,
    ) -> None:
        """Its kubelet, before the informers run."""
        self._supervisor = supervisor
        if self.plan.simulation is not None:  # nobody takes a real machine's power away
            self._power.follow(nodes)
        self._kubelet = Kubelet(
            api, machine, self.plan.name, self.devices, pods=pods, heartbeat_s=heartbeat_s
        )

    def start_kubelet(self, parts: Parts) -> None:
        """What runs its pods."""
        assert self._kubelet is not None
        self._keep(parts, "kubelet", self._kubelet.run)
        parts.run(self._supervisor.keep(self._part("power"), self._power.run), self._part("power"))

    def wake(self) -> None:
        """This process stood still: the node reports itself alive at once."""
        if self._kubelet is not None:
            self._kubelet.wake()

    def start_exporter(self, parts: Parts) -> None:
        """What tells of its GPUs; nothing that a run needs waits for it."""
        self._keep(parts, "exporter", self._exporter.run)
        self._folder.hold(self.plan.paths.metrics_socket, self._exporter.restart, lambda: self._power.is_on)

    def _keep(self, parts: Parts, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs a loop for as long as the yard goes on and the node has power."""
        part = self._part(name)
        parts.run(self._supervisor.keep(part, partial(self._power.keep, run)), part)

    async def _lose_power(self) -> None:
        log.warning("%s has lost its power (simulated)", self.plan.name)
        if self._kubelet is not None:
            await self._kubelet.lose_power()

    def _part(self, name: str) -> str:
        return name if self.plan.number == 1 else f"{name} of {self.plan.name}"


def forget_former_files(yard: YardPaths, kept: Settings, plans: Sequence[NodePlan]) -> None:
    """Removes what was said of a node's former GPUs, their faults and their splits, which isn't meant for its
    new ones; and all of the nodes that are no more."""
    with suppress(errors.UsageError):
        for was, plan in zip(parse_simulations(kept.simulate), plans, strict=False):
            if was != plan.simulation and plan.paths.simulated_health.exists():
                plan.paths.simulated_health.unlink()
                log.info("%s is removed: it was about %s", plan.paths.simulated_health, was)
    for number in range(len(plans) + 1, MOST_NODES + 1):
        remove_tree(yard.of_node(number).data_dir)


async def forget_former_nodes(api: KubeApi, names: Sequence[str]) -> None:
    """Removes the nodes that the yard has had and has no more, as a cluster does whose machine is gone; and
    what the agents of the last start said: it isn't known to hold, and this one's can't have spoken yet. A
    node that had lost its power has it again.

    The first start has no node, and a full disk keeps no yard from starting.
    """
    for name in node_names(names[0], MOST_NODES)[len(names) :]:
        for resource, namespace in ((NODES, ""), (LEASES, LEASES_NAMESPACE)):
            with suppress(errors.GpuyardError):
                await api.delete(resource, name, namespace)
    former: dict[str, Any] = {"metadata": {"annotations": {ANNOTATION_NO_GPUS: None}}}
    for name in names:
        with suppress(errors.GpuyardError):
            node = await api.patch(NODES, name, former)
            if is_powered_off(node):
                await api.update(NODES, with_power(node))
