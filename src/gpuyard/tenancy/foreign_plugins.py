"""Whether someone else serves a node's GPUs: two plugins of one resource take it from each other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from gpuyard.gpus.resources import allocatable_gpus
from gpuyard.kube.objects import Manifest, controller_of, key_of, labels_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.wellknown import LABEL_PART_OF
from gpuyard.tenancy.names import PART_OF

_PLUGINS = "/var/lib/kubelet/device-plugins"
#: Plugins of other devices (networks, FPGAs) mount the same folder.
_WORDS = ("nvidia", "gpu")


@dataclass(frozen=True)
class ForeignPlugin:
    """A device plugin of GPUs that isn't ours.

    Attributes:
        owner: what to take away, as kubectl names it: `daemonset/NAME -n NAMESPACE`.
        nodes: where it runs.
    """

    owner: str
    nodes: tuple[str, ...]


def foreign_plugins(nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> list[ForeignPlugin]:
    """The plugins that serve GPUs on nodes that have some allocatable."""
    serving = {key_of(node).name for node in nodes if allocatable_gpus(node)}
    found: dict[str, list[str]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName", "")
        if node in serving and _is_gpu_plugin(pod):
            found.setdefault(_owner(pod), []).append(node)
    return [ForeignPlugin(owner, tuple(sorted(set(where)))) for owner, where in sorted(found.items())]


def served_by_no_pod(nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> list[str]:
    """Nodes that have GPUs to give, with neither an agent of ours nor another plugin's pod on them.

    What serves them is a service of the node itself, or has gone a moment ago.
    """
    pods = list(pods)
    serving = {key_of(node).name for node in nodes if allocatable_gpus(node)}
    known = {pod["spec"].get("nodeName") for pod in pods if _is_ours(pod) or _is_gpu_plugin(pod)}
    return sorted(serving - known)


def _is_gpu_plugin(pod: Manifest) -> bool:
    if _is_ours(pod) or is_terminal(pod):
        return False
    paths = [(volume.get("hostPath") or {}).get("path", "") for volume in pod["spec"].get("volumes") or ()]
    if not any(path.rstrip("/") == _PLUGINS for path in paths):
        return False
    text = (key_of(pod).name + json.dumps(pod["spec"]["containers"])).lower()
    return any(word in text for word in _WORDS)


def _is_ours(pod: Manifest) -> bool:
    return labels_of(pod).get(LABEL_PART_OF) == PART_OF


def _owner(pod: Manifest) -> str:
    namespace, name = key_of(pod)
    owner = controller_of(pod)
    kind, name = (owner["kind"].lower(), owner["name"]) if owner else ("pod", name)
    return f"{kind}/{name} -n {namespace}"
