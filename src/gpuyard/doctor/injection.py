"""Ways of a driver into containers: NVIDIA's container toolkit, and CDI (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpuyard.doctor.check import Check, CheckState, NodeFinding, broken, ok, skipped
from gpuyard.gpus.cdi import node_cdi_faults
from gpuyard.gpus.resources import has_simulated_gpus
from gpuyard.kube.objects import Manifest, key_of, labels_of
from gpuyard.kube.wellknown import LABEL_GPU_INJECTION

#: Of NVIDIA's container toolkit: CVE-2025-23266 and CVE-2025-23267 are mended from here on.
_SAFE_TOOLKIT = (1, 17, 8)
_TOOLKIT = re.compile(r"container-toolkit:v?(\d+)\.(\d+)\.(\d+)")
#: The first release of a runtime that reads CDI specs, and the first that does so without being told.
_CDI_SINCE = {"containerd": ((1, 7), (2, 0)), "cri-o": ((1, 24), (1, 24))}
#: The kubelet passes a plugin's CDI names on without a feature gate.
_KUBELET_CDI = (1, 29)
_MAX_SHOWN = 2


def judge_toolkit(name: str, access: str, pods: Sequence[Manifest]) -> Check:
    """Whether NVIDIA's container toolkit is one without known holes, as far as a pod's image tells.

    Args:
        name: of the check.
        access: how agents reach the driver, before what is said.
        pods: all of the cluster; an operator of NVIDIA's runs the toolkit as one.
    """
    images = [c.get("image", "") for pod in pods for c in pod["spec"].get("containers") or ()]
    versions = sorted(tuple(map(int, m.groups())) for image in images if (m := _TOOLKIT.search(image)))
    safe = ".".join(map(str, _SAFE_TOOLKIT))
    if not versions:
        return skipped(
            name,
            f"{access}the version of NVIDIA's container toolkit isn't told to the API",
            f"on a node: nvidia-ctk --version; below {safe} containers can become root there "
            "(CVE-2025-23266, CVE-2025-23267)",
        )
    text = ".".join(map(str, versions[0]))
    if versions[0] < _SAFE_TOOLKIT:
        return broken(
            name,
            f"{access}NVIDIA's container toolkit is {text}: containers can become root on the node",
            f"upgrade it to {safe} or later (CVE-2025-23266, CVE-2025-23267)",
        )
    return ok(name, f"{access}container toolkit {text}")


def cdi_finding(node: Manifest) -> NodeFinding:
    """Whether a node's runtime takes devices by CDI without being told, and finds those of the agent."""
    name, text = key_of(node).name, runtime_text(node)
    if faults := node_cdi_faults(node):
        state = CheckState.BROKEN if faults[0].is_broken else CheckState.WARNING
        return NodeFinding(name, state, "; ".join(map(str, faults[:_MAX_SHOWN])), faults[0].remedy)
    if labels_of(node).get(LABEL_GPU_INJECTION) == "legacy":
        return NodeFinding(name, CheckState.OK, f"{text}: GPUs come by NVIDIA's runtime, says its label")
    runtime, _, version = text.partition(" ")
    since = _CDI_SINCE.get(runtime)
    number = _version(version)
    # Device nodes of simulated GPUs come without CDI as well, and there is no driver to bring.
    lacking = CheckState.WARNING if has_simulated_gpus(node) else CheckState.BROKEN
    libraries = "without it containers get GPUs, but not the driver's libraries"
    legacy = f"where NVIDIA's runtime is the default one, label the node {LABEL_GPU_INJECTION}=legacy"
    if since is None or number is None:
        return NodeFinding(
            name,
            CheckState.WARNING,
            f"nobody knows whether {text} takes CDI; {libraries}",
            legacy,
        )
    if number < since[0]:
        return NodeFinding(
            name,
            lacking,
            f"{text} knows no CDI; {libraries}",
            f"upgrade it to {since[1][0]}.{since[1][1]}, or, {legacy}",
        )
    if number < since[1]:
        return NodeFinding(
            name,
            CheckState.WARNING,
            f"{text} takes CDI only when told to; {libraries}",
            f"set enable_cdi = true in its configuration, or, {legacy}",
        )
    kubelet = str(node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")).removeprefix("v")
    if (found := _version(kubelet)) and found < _KUBELET_CDI:
        return NodeFinding(
            name,
            CheckState.WARNING,
            f"its kubelet {kubelet} passes CDI on only with the gate DevicePluginCDIDevices; {libraries}",
            f"upgrade it to {_KUBELET_CDI[0]}.{_KUBELET_CDI[1]}, or, {legacy}",
        )
    return NodeFinding(name, CheckState.OK, text)


def runtime_text(node: Manifest) -> str:
    """`containerd 2.1.5`."""
    raw = str(node.get("status", {}).get("nodeInfo", {}).get("containerRuntimeVersion", ""))
    runtime, _, version = raw.partition("://")
    return f"{runtime or 'an unknown runtime'} {version.partition('+')[0]}".rstrip()


def _version(text: str) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None
