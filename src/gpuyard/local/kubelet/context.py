"""What the workers of one kubelet share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gpuyard.client.api import KubeApi
from gpuyard.client.events import EventRecorder
from gpuyard.local.kubelet.back_off import BackOff
from gpuyard.local.kubelet.devices.manager import DeviceManager
from gpuyard.local.kubelet.host_names import HostNames
from gpuyard.local.kubelet.image_pulls import Images
from gpuyard.local.kubelet.logs.kubelet_logs import KubeletLogs
from gpuyard.local.kubelet.node import NodeReporter
from gpuyard.local.kubelet.ports import PortPool
from gpuyard.local.kubelet.streams import KubeletStreams
from gpuyard.local.runtime.runtimes import Runtimes


@dataclass(frozen=True)
class KubeletContext:
    """The parts of the kubelet that pods use, and what each running pod holds of the node.

    Attributes:
        held: requests of admitted pods by uid; cpu in millicores, memory in bytes.
        images: for containers that have one.
        logs: of the containers.
        seconds: a steady clock that goes on in a suspend.
        cdi_dir: where the agent writes its CDI spec.
        host_names: by which pods find one another.
        ports: of the machine, which its nodes share.
        streams: starts commands in containers.
        devices_due_s: until when device plugins of an earlier start may still be on their way, on the
            loop's clock: they sleep in a suspend, too.
    """

    api: KubeApi
    runtimes: Runtimes
    devices: DeviceManager
    events: EventRecorder
    node: NodeReporter
    clock: Callable[[], datetime]
    seconds: Callable[[], float]
    pods_dir: Path
    back_off: BackOff
    devices_due_s: float
    images: Images
    logs: KubeletLogs
    cdi_dir: Path
    host_names: HostNames
    ports: PortPool
    streams: KubeletStreams
    held: dict[str, Mapping[str, int]] = field(default_factory=dict)

    def forget_all_but(self, uids: Collection[str]) -> None:
        """Gives back what pods held that went away while no kubelet ran."""
        for uid in self.held.keys() - uids:
            del self.held[uid]
            self.ports.give_back(uid)
