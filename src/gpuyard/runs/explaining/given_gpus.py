"""Which GPUs a running pod was given, and why those: what the device plugin looks for, held against what the
node's agent says of them (`agent.plugin.preferred`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb
from typing import Any, TypeAlias

from gpuyard import errors
from gpuyard.devices.inventory import PcieLevel
from gpuyard.gpus.resources import pod_gpus
from gpuyard.kube.objects import key_of
from gpuyard.runs.nodes.fleet import read_fleet
from gpuyard.runs.nodes.gpu_node import GpuLink, GpuNode, GpuUser, NodeGpu
from gpuyard.runs.run import Run, is_alive
from gpuyard.runs.target import Target

_Links: TypeAlias = Mapping[tuple[int, int], GpuLink]
#: Of 16 GPUs 8 can be chosen in 12,870 ways.
_MOST_SETS = 13_000


@dataclass(frozen=True)
class GivenGpus:
    """What one pod has.

    Attributes:
        gpus: in words: `0`, `2:0 (1g.10gb)`.
        reasons: why these; empty where nothing is to be said.
        unread: why it isn't known which; empty when it is.
    """

    pod: str
    node: str
    gpus: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    unread: str = ""

    def __str__(self) -> str:
        if self.unread:
            return f"which GPUs of node {self.node} it got isn't known: {self.unread}"
        word = "GPU" if len(self.gpus) == 1 else "GPUs"
        got = f"got {word} {', '.join(self.gpus)} of node {self.node}"
        return f"{got}: {'; '.join(self.reasons)}" if self.reasons else got

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


async def read_given_gpus(target: Target, run: Run) -> tuple[GivenGpus, ...]:
    """Of each pod of the run that is placed and alive; none without GPUs.

    Raises:
        ConnectionFailed: the API doesn't answer.
    """
    found = []
    for pod in run.pods:
        name = pod["spec"].get("nodeName")
        if not (name and is_alive(pod) and pod_gpus(pod["spec"])):
            continue
        key = key_of(pod)
        try:
            (node,) = (await read_fleet(target, name)).nodes
        except (errors.ApiError, errors.UsageError) as error:
            found.append(GivenGpus(key.name, name, unread=error.message))
            continue
        found.append(given_gpus(node, GpuUser(key.namespace, key.name)))
    return tuple(found)


def given_gpus(node: GpuNode, pod: GpuUser) -> GivenGpus:
    """What a pod has of a node's GPUs, as the node's agent said last."""
    whole = [gpu for gpu in node.gpus if _has(gpu.users, pod)]
    parts = [(gpu, part) for gpu in node.gpus for part in gpu.parts if _has(part.users, pod)]
    names = [f"{gpu.index}" + (f" (shared by {gpu.replicas})" if gpu.replicas > 1 else "") for gpu in whole]
    names += [f"{part.name_on(gpu.index)} ({part.profile})" for gpu, part in parts]
    if not names:
        return GivenGpus(pod.pod, node.name, unread=node.unread or "its agent names none yet")
    alone = len(whole) == len(names) and all(gpu.replicas < 2 for gpu in whole)
    return GivenGpus(pod.pod, node.name, tuple(names), tuple(_reasons(node, whole)) if alone else ())


def _has(users: Iterable[GpuUser], pod: GpuUser) -> bool:
    return any((user.namespace, user.pod) == (pod.namespace, pod.pod) for user in users)


def _reasons(node: GpuNode, chosen: Sequence[NodeGpu]) -> Iterable[str]:
    links = {(gpu.index, link.peer): link for gpu in node.gpus for link in gpu.links}
    indexes = [gpu.index for gpu in chosen]
    if len(chosen) > 1:
        yield _joined(chosen[0], [links[pair] for pair in combinations(indexes, 2) if pair in links])
    numa = sorted({gpu.numa_node for gpu in chosen if gpu.numa_node is not None})
    if numa:
        yield f"NUMA node {numa[0]}" if len(numa) == 1 else f"across NUMA nodes {', '.join(map(str, numa))}"
    near = [
        gpu
        for gpu in node.gpus
        if gpu not in chosen and any((link := links.get((gpu.index, i))) and link.nvlinks for i in indexes)
    ]
    used = [gpu for gpu in near if gpu.all_users]
    if near:
        to = f"{chosen[0].fabric} joins to {'it' if len(chosen) == 1 else 'them'}"
        yield _neighbours(len(near), len(used), to)
    if len(chosen) > 1:
        better = _better(node.gpus, chosen, links)
        if better is not None:
            named = ", ".join(map(str, better))
            yield (
                f"GPUs {named} are joined better and free now" if better else "no free ones are joined better"
            )


def _neighbours(count: int, used: int, joined: str) -> str:
    """How many of the other GPUs are in use that are joined to those which the pod has."""
    if count == 1:
        return f"the one other that {joined} is {'in use' if used else 'not in use'}"
    return f"of the {count} others that {joined} {used or 'none'} {'is' if used < 2 else 'are'} in use"


def _joined(one: NodeGpu, links: Sequence[GpuLink]) -> str:
    by_nvlink = [link.nvlinks for link in links if link.nvlinks]
    if links and len(by_nvlink) == len(links):
        return f"each pair joined by {one.links_text(min(by_nvlink))}"
    others = [link.pcie for link in links if not link.nvlinks]
    farthest = min(others, key=lambda text: _level(text), default="unknown")
    by_pcie = f"PCIe ({farthest})"
    if not by_nvlink:
        return f"joined by {by_pcie}, without {one.fabric}"
    return f"{len(by_nvlink)} of {len(links)} pairs joined by {one.fabric}, the others by {by_pcie}"


def _better(gpus: Sequence[NodeGpu], chosen: Sequence[NodeGpu], links: _Links) -> tuple[int, ...] | None:
    """What is joined better, of the pod's own GPUs and those that are free; None where there are too many
    sets to look at, and empty where nothing is."""
    there = [gpu.index for gpu in gpus if gpu in chosen or _is_free(gpu)]
    if comb(len(there), len(chosen)) > _MOST_SETS:
        return None
    best = max(combinations(there, len(chosen)), key=lambda some: _worth(some, links))
    own = tuple(gpu.index for gpu in chosen)
    return best if _worth(best, links) > _worth(own, links) else ()


def _is_free(gpu: NodeGpu) -> bool:
    return not (gpu.all_users or gpu.occupants or gpu.fault or gpu.mig == "on" or gpu.replicas > 1)


def _worth(indexes: Iterable[int], links: _Links) -> tuple[int, int]:
    """As the plugin compares: NVLinks among them, then how near they are on PCIe."""
    among = [links[pair] for pair in combinations(indexes, 2) if pair in links]
    return sum(link.nvlinks for link in among), sum(_level(link.pcie) for link in among)


def _level(text: str) -> PcieLevel:
    return PcieLevel.__members__.get(text.upper().replace("-", "_"), PcieLevel.UNKNOWN)
