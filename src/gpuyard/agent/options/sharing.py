"""Which of a node's GPUs are shared by several containers, and how (pure).

Time-slicing isolates nothing: each container sees all of the GPU's memory. MPS gives each client a limit of
memory and of threads, and is for processes that trust each other.
Source: NVIDIA/k8s-device-plugin README, "Shared access to GPUs"; NVIDIA's MPS documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from gpuyard.devices.inventory import Device, MigInstance
from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.kube.wellknown import NVIDIA

#: Clients of one MPS server since Volta; 16 before.
MAX_MPS_CLIENTS = 48
MAX_MPS_CLIENTS_BEFORE_VOLTA = 16
_VOLTA = (7, 0)
#: Containers that one GPU is cut into by time: more is a typing error.
MAX_REPLICAS = 1024


class SharingStrategy(StrEnum):
    """How containers share a GPU; the values are those of the label `nvidia.com/gpu.sharing-strategy`."""

    TIME_SLICING = "time-slicing"
    MPS = "mps"


@dataclass(frozen=True)
class Sharing:
    """One rule: which devices are shared, among how many.

    Attributes:
        strategy: how.
        replicas: containers that share one device, 2 or more.
        resource: what the devices would be offered as without this rule.
        renamed: what they are offered as; empty for the same name.
        devices: their indexes, UUIDs, or `0:1` for a MIG instance; empty for all of the resource.
        nodes: names of the nodes that it is for, with `*` and `?`; empty for all.
        one_at_most: whether a container may have one replica only: two can be of the same GPU.
        memory_mib: of one MPS client; None for an equal share.
        thread_percent: of one MPS client; None for an equal share.
    """

    strategy: SharingStrategy
    replicas: int
    resource: str = GPU_RESOURCE
    renamed: str = ""
    devices: Sequence[str] = ()
    nodes: Sequence[str] = ()
    one_at_most: bool = False
    memory_mib: int | None = None
    thread_percent: int | None = None

    def is_for_node(self, node: str) -> bool:
        """Whether it holds on this node."""
        return not self.nodes or any(fnmatchcase(node, pattern) for pattern in self.nodes)

    def is_of(self, resource: str, gpu: Device, instance: MigInstance | None) -> bool:
        """Whether it is about this device."""
        if resource != self.resource:
            return False
        names = {gpu.uuid, str(gpu.index)} if instance is None else set()
        if instance is not None:
            names = {instance.uuid, f"{gpu.index}:{instance.index}"}
        return not self.devices or not names.isdisjoint(self.devices)

    def problem(self, gpu: Device, instance: MigInstance | None) -> str:
        """Why this device can't be shared so; empty when it can."""
        if self.strategy is not SharingStrategy.MPS:
            return ""
        if gpu.vendor != NVIDIA:
            return "isn't NVIDIA's, and only those have MPS"
        if instance is not None or (gpu.mig is not None and gpu.mig.enabled):
            return "is split, and MPS shares whole GPUs only"
        most = MAX_MPS_CLIENTS if gpu.compute_capability >= _VOLTA else MAX_MPS_CLIENTS_BEFORE_VOLTA
        if self.replicas > most:
            return f"can have {most} clients of MPS, not {self.replicas}"
        needed = self.client_memory_mib(gpu) * self.replicas
        if needed > gpu.memory_mib:
            return f"has {gpu.memory_mib} MiB, not the {needed} of {self.replicas} clients of MPS"
        return ""

    def client_memory_mib(self, gpu: Device) -> int:
        """Memory that one MPS client may have."""
        return self.memory_mib or gpu.memory_mib // self.replicas

    @property
    def client_thread_percent(self) -> int:
        """Threads that one MPS client may have, of the GPU's."""
        return self.thread_percent or max(100 // self.replicas, 1)
