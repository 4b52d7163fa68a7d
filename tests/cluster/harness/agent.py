"""Our agent on a node of the cluster, and what the node's kubelet says about its devices."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard._proto import pod_resources_pb2_grpc as rpc
from tests.cluster.harness import namespaces
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.objects import GPU
from tests.cluster.harness.parts import Node
from tests.cluster.harness.state import Process
from tests.waiting import until

_TIMEOUT_S = 60.0
_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class GpuShape:
    """How an agent offers its simulated GPUs.

    Attributes:
        gpus: the simulation.
        resource: as which they are offered.
        mig: how they are split, by index.
        arguments: of the agent.
    """

    gpus: str = "H100:4"
    resource: str = GPU
    mig: Mapping[str, Sequence[str]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


WHOLE = GpuShape()


class Agent:
    """The agent with simulated GPUs, or those of a driver, as a process of the node's machine.

    Attributes:
        driver_root: of the driver; None for simulated GPUs.
        folder: of its log and of the file that says which GPUs are unhealthy, and why.
        process: None while it is stopped.
    """

    def __init__(
        self,
        cluster: Cluster,
        node: str,
        folder: Path,
        gpus: str | GpuShape = WHOLE,
        driver_root: Path | None = None,
    ) -> None:
        self.cluster = cluster
        self.node: Node = cluster.nodes[node]
        self.folder = folder
        self.shape = GpuShape(gpus) if isinstance(gpus, str) else gpus
        self.set_unhealthy(())
        self.driver_root = driver_root
        self.process: Process | None = None

    @property
    def log(self) -> str:
        """What it printed, over all its starts."""
        return (self.folder / "agent.log").read_text()

    def start(self) -> None:
        """Starts it. It isn't registered yet when this returns."""
        assert self.process is None
        argv = [
            *(sys.executable, "-m", "gpuyard.agent", "--node", self.node.name),
            *("--plugins-dir", "/var/lib/kubelet/device-plugins", "--cdi-dir", "/var/run/cdi"),
            *(
                ("--driver-root", str(self.driver_root), "--cdi-driver")
                if self.driver_root
                else ("--simulate", self.shape.gpus, "--simulated-health", str(self.folder / "health.json"))
            ),
            *self.shape.arguments,
        ]
        environ = {"PYTHONPATH": str(_ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        holder = self.cluster.state.holders[self.node.name]
        self.process = namespaces.start(holder, argv, self.folder / "agent.log", environ=environ)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it, and returns when it is gone. Does nothing when it is stopped."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.signal(number)
        try:
            until(lambda: not process.alive, "the agent ends")
        finally:
            process.signal(signal.SIGKILL)

    def restart(self, number: int = signal.SIGTERM) -> None:
        """Ends it and starts it again."""
        self.stop(number)
        self.start()

    def set_unhealthy(self, uuids: Iterable[str], reason: str = "XID 79") -> None:
        """These GPUs fail; all others work."""
        draft = self.folder / "health.new"
        draft.write_text(json.dumps({"unhealthy": dict.fromkeys(uuids, reason), "mig": self.shape.mig}))
        draft.rename(self.folder / "health.json")


def resident_bytes(cluster: Cluster, container: str) -> int:
    """Of the agent's process in one of the containers of an install, where it isn't the first process."""
    module = {"plugin": "gpuyard.agent", "labeller": "gpuyard.agent.labelling"}[container]
    look = (
        "import pathlib\n"
        "for folder in pathlib.Path('/proc').glob('[0-9]*'):\n"
        f"    if folder.joinpath('cmdline').read_bytes().split(bytes(1))[1:3] == [b'-m', b'{module}']:\n"
        "        print(folder.joinpath('status').read_text())\n"
    )
    where = ("-n=gpuyard-system", "daemonset/gpuyard-agent", f"-c={container}")
    status = cluster.kubectl("exec", *where, "--", "python3", "-c", look)
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def held(node: Node, resource: str = GPU) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Which container holds which GPUs, says the kubelet: by namespace, pod, container."""
    with grpc.insecure_channel(f"unix:{node.pod_resources_socket}") as channel:
        answer = rpc.PodResourcesListerStub(channel).List(
            pb.ListPodResourcesRequest(), timeout=_TIMEOUT_S, wait_for_ready=True
        )
    return {
        (pod.namespace, pod.name, container.name): tuple(
            sorted(
                uuid
                for devices in container.devices
                if devices.resource_name == resource
                for uuid in devices.device_ids
            )
        )
        for pod in answer.pod_resources
        for container in pod.containers
        if any(devices.resource_name == resource for devices in container.devices)
    }


def allocatable(node: Node, resource: str = GPU) -> tuple[str, ...]:
    """The healthy GPUs of the node, says the kubelet: UUIDs."""
    with grpc.insecure_channel(f"unix:{node.pod_resources_socket}") as channel:
        answer = rpc.PodResourcesListerStub(channel).GetAllocatableResources(
            pb.AllocatableResourcesRequest(), timeout=_TIMEOUT_S, wait_for_ready=True
        )
    uuids = (
        uuid for devices in answer.devices if devices.resource_name == resource for uuid in devices.device_ids
    )
    return tuple(sorted(uuids))
