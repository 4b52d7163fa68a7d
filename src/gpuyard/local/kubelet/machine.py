"""What the kubelets of one machine share: a yard may have several nodes on it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from gpuyard.devices.simulated.simulation import MOST_NODES
from gpuyard.local.kubelet.host_names import HostNames
from gpuyard.local.kubelet.image_pulls import Images
from gpuyard.local.kubelet.logs.kubelet_logs import KubeletLogs
from gpuyard.local.kubelet.ports import PortPool
from gpuyard.local.kubelet.streams import KubeletStreams
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.runtimes import Runtimes

_MAX_NAME = 63


class Machine:
    """Owns what isn't any node's: folders, logs and streams of all pods, names, ports, and the runtimes.

    So a log can be read for as long as its pod is there, also when the node no longer is.

    Args:
        paths: of the yard.
        runtimes: of this host.
        clock: aware UTC now.
        nodes: names of the nodes, in order.
    """

    def __init__(
        self, paths: YardPaths, runtimes: Runtimes, clock: Callable[[], datetime], nodes: Sequence[str]
    ) -> None:
        self.paths = paths
        self.runtimes = runtimes
        self.clock = clock
        self.nodes = tuple(nodes)
        self.logs = KubeletLogs(paths.pods_dir, clock)
        self.streams = KubeletStreams(paths.pods_dir, runtimes)
        self.images = Images(runtimes.podman.host)
        self.host_names = HostNames(paths.hosts_dir)
        self.ports = PortPool()
        self._probing = asyncio.Lock()

    def was_here(self, node: str) -> bool:
        """Whether the yard has had this node, and has it no more: nothing of it may go on."""
        return node not in self.nodes and node in node_names(self.nodes[0], MOST_NODES)

    def looks_after(self, kubelet: str, node: str) -> bool:
        """Whether this node's kubelet cleans up behind pods of that one: its own, and the first also behind
        those of nodes that are no more."""
        return node == kubelet or (kubelet == self.nodes[0] and node not in self.nodes)

    def cdi_dir(self, node: str) -> Path:
        """Where the agent of this node writes its CDI spec."""
        return self.paths.of_node(self.nodes.index(node) + 1).cdi_dir

    async def probe_podman(self) -> None:
        """Finds out once whether containers can run here."""
        async with self._probing:
            await self.runtimes.podman.host.probe()


def node_names(host: str, count: int) -> tuple[str, ...]:
    """Names of the nodes of a machine, the same at each start: the first has the host's as Kubernetes wants a
    node's, the others a number behind it."""
    first = re.sub(r"[^a-z0-9.]+", "-", host.lower()).strip("-.") or "yard"
    # A label has to hold them.
    short = first[: _MAX_NAME - 3].rstrip("-.")
    return (first, *(f"{short}-{number}" for number in range(2, count + 1)))
