"""What each pod has of a GPU that several share (pure).

The driver says how much memory each process has there. Whose process it is says its cgroup on a cluster,
which is its pod's. On a yard, whose processes are one user's, its environment says it: there the agent has
put the ids of the shares that its container was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

from gpuyard.agent.gpu_use.ledger import PodName
from gpuyard.agent.metrics.holdings import Holdings
from gpuyard.devices.readings import GpuProcess


@dataclass(frozen=True)
class PodShare:
    """Memory of one GPU or MIG instance that a pod's processes have."""

    uuid: str
    pod: PodName
    memory_mib: int


def has_shares(holdings: Holdings) -> bool:
    """Whether any pod has a share of a GPU."""
    return any(each.is_share for each in holdings.held)


def pod_shares(
    holdings: Holdings,
    processes: Mapping[str, Iterable[GpuProcess]],
    device_ids: Callable[[int], Set[str]],
) -> tuple[PodShare, ...]:
    """Of each pod that has a process on a GPU which it shares; of a process that isn't told apart, nobody's.

    Args:
        holdings: who has shares.
        processes: of each GPU and MIG instance, by UUID.
        device_ids: those that a process, by its pid, was given.
    """
    pod_of = {each.device_id: PodName(each.namespace, each.pod) for each in holdings.held if each.is_share}
    found: dict[tuple[str, PodName], int] = {}
    for uuid, of_it in processes.items():
        shared = {each.device_id for each in holdings.by_uuid.get(uuid, ()) if each.is_share}
        for process in of_it if shared else ():
            pods = {pod_of[each] for each in shared & device_ids(process.pid)}
            if len(pods) == 1 and process.memory_mib is not None:
                key = uuid, pods.pop()
                found[key] = found.get(key, 0) + process.memory_mib
    return tuple(PodShare(uuid, pod, memory_mib) for (uuid, pod), memory_mib in found.items())
