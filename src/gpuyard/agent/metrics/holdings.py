"""Which containers hold which GPUs, parts and shares of them (pure).

A device id is the UUID of a GPU or of a MIG instance, or `UUID::n` for a share of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName


@dataclass(frozen=True)
class Holding:
    """A device that a container was given."""

    namespace: str
    pod: str
    container: str
    resource: str
    device_id: str

    @property
    def uuid(self) -> str:
        """Of the GPU, or of the MIG instance."""
        return self.device_id.partition("::")[0]

    @property
    def is_share(self) -> bool:
        """Whether other containers may hold the same GPU or MIG instance."""
        return "::" in self.device_id


@dataclass(frozen=True)
class Holdings:
    """All of a node at one moment."""

    held: tuple[Holding, ...] = ()

    @cached_property
    def by_uuid(self) -> Mapping[str, Sequence[Holding]]:
        """Those of each GPU or MIG instance that is held."""
        found: dict[str, list[Holding]] = {}
        for holding in self.held:
            found.setdefault(holding.uuid, []).append(holding)
        return found

    @cached_property
    def by_pod(self) -> Mapping[PodName, Set[HeldDevice]]:
        """The devices of each pod."""
        found: dict[PodName, set[HeldDevice]] = {}
        for each in self.held:
            device = HeldDevice(each.device_id, each.uuid, each.is_share)
            found.setdefault(PodName(each.namespace, each.pod), set()).add(device)
        return found

    def owner(self, uuid: str) -> Mapping[str, str]:
        """Labels of the pod that has this for itself: none where nobody has it, or several may."""
        holdings = self.by_uuid.get(uuid, ())
        pods = {(each.namespace, each.pod) for each in holdings}
        if len(pods) != 1 or any(each.is_share for each in holdings):
            return {}
        containers = {each.container for each in holdings}
        ((namespace, pod),) = pods
        # An init container and the one after it can have the same.
        container = containers.pop() if len(containers) == 1 else ""
        return {"container": container, "namespace": namespace, "pod": pod}


def known(holdings: Iterable[Holding], uuids: Iterable[str]) -> Holdings:
    """Those of these GPUs and MIG instances: a kubelet lists other devices, too."""
    ours = frozenset(uuids)
    return Holdings(tuple(each for each in holdings if each.uuid in ours))
