"""Which nodes have no agent though an install may have meant them, and what would mend that (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gpuyard.kube.nodes import DaemonMisfit, daemon_misfit, format_taint
from gpuyard.kube.objects import Manifest, key_of

#: Of nodes that most people don't mean.
_CONTROL_PLANE = frozenset({"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"})
_SHOWN = 3


def kept_off(
    nodes: Iterable[Manifest], pod: Mapping[str, Any], *, control_plane: bool = False
) -> dict[str, DaemonMisfit]:
    """The nodes that are selected and have a taint that agents don't tolerate.

    Args:
        nodes: of the cluster.
        pod: `spec` of the DaemonSet's template.
        control_plane: also those of the control plane.
    """
    found = {}
    for node in nodes:
        misfit = daemon_misfit(node, pod)
        keys = {taint["key"] for taint in misfit.taints}
        if misfit and not misfit.labels and (control_plane or not keys & _CONTROL_PLANE):
            found[key_of(node).name] = misfit
    return found


def toleration_flags(misfits: Iterable[DaemonMisfit]) -> str:
    """What lets agents run in spite of these taints: `--toleration sku=gpu:NoSchedule`."""
    taints = sorted({format_taint(taint) for misfit in misfits for taint in misfit.taints})
    return " ".join(f"--toleration {taint}" for taint in taints)


def why_no_agent(nodes: Sequence[Manifest], pod: Mapping[str, Any]) -> tuple[str, str]:
    """Why no node of a cluster is to have an agent, and what mends it."""
    off = kept_off(nodes, pod) or kept_off(nodes, pod, control_plane=True)
    if off:
        shown = "; ".join(f"node {name} {misfit}" for name, misfit in sorted(off.items())[:_SHOWN])
        more = f"; and {len(off) - _SHOWN} more" if len(off) > _SHOWN else ""
        return f"{shown}{more}", f"add {toleration_flags(off.values())}, or --tolerate-all for any taint"
    labels = ",".join(f"{name}={value}" for name, value in (pod.get("nodeSelector") or {}).items())
    return (
        f"no node has the labels {labels}",
        "label the nodes with GPUs, or name others with --node-selector; nodes that come later get theirs "
        "by themselves (--no-wait)",
    )
