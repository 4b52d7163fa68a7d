"""Whether tenants are kept to the GPUs that the scheduler gave them: by the policies, and on nodes (pure)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpuyard import errors
from gpuyard.doctor.check import Check, CheckState, NodeFinding, ok, skipped, unseen, warning
from gpuyard.doctor.cluster_facts import ClusterFacts
from gpuyard.doctor.gpu_nodes import GpuNodes
from gpuyard.gpus.exposure import Exposure
from gpuyard.gpus.resources import has_simulated_gpus
from gpuyard.kube.objects import (
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    MUTATION_BINDINGS,
    Manifest,
    key_of,
    labels_of,
)
from gpuyard.kube.wellknown import LABEL_GPU_INJECTION, LABEL_TENANT
from gpuyard.tenancy.names import TENANTS, TENANTS_VOID

_NAME = "tenants"
#: Of the container of NVIDIA's toolkit that sets nodes up; the first that is there counts, and without any
#: NVIDIA's runtime becomes the default. Source: NVIDIA/nvidia-container-toolkit, cmd/nvidia-ctk-installer.
_SET_AS_DEFAULT = ("NVIDIA_RUNTIME_SET_AS_DEFAULT", "CONTAINERD_SET_AS_DEFAULT", "DOCKER_SET_AS_DEFAULT")
_ACCEPT = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
_TRUE = frozenset({"1", "t", "true"})
#: Folders of a node that are its own: who writes there, or reads all of it, has the node or its devices.
_OF_NODE = (
    *("/dev", "/etc", "/proc", "/sys", "/run", "/var/run", "/boot", "/usr", "/root"),
    *("/var/lib/kubelet", "/var/lib/containerd", "/var/lib/docker"),
)
_MAX_NAMED = 3
_OPEN = (
    "NVIDIA's runtime is the default one, and takes NVIDIA_VISIBLE_DEVICES from images: who asked "
    "for no GPU gets them all"
)
_CLOSE = (
    "install again with --void (Kubernetes 1.36 or later); or make runc the default runtime there, as GPUs "
    "come by CDI: NVIDIA_RUNTIME_SET_AS_DEFAULT=false in the env of the GPU operator's toolkit, else "
    "nvidia-ctk runtime configure --set-as-default=false"
)
_UNKNOWN = (
    "NVIDIA's runtime may be the default one, which would give images the GPUs that they name: nobody knows"
)


def judge(facts: ClusterFacts) -> Check:
    """What isn't closed, if any namespace is a tenant's."""
    if isinstance(facts.tenants, errors.GpuyardError):
        # Whoever only runs things needs no further right for this.
        return replace(unseen(_NAME, facts.tenants), remedy="")
    tenants = sorted(key_of(item).name for item in facts.tenants)
    if not tenants:
        return skipped(_NAME, f"no namespace has the label {LABEL_TENANT}")
    findings = _nodes(facts)
    problems = [*_policies(facts, tenants), *_of_nodes(findings), *_volumes(facts, tenants)]
    if problems:
        said, remedies = zip(*problems, strict=True)
        return replace(warning(_NAME, "; ".join(said), "\n".join(remedies)), nodes=tuple(findings))
    count = f"{len(tenants)} namespace{'s' if len(tenants) > 1 else ''}"
    images = ", and images can't choose GPUs on nodes" if findings else ""
    return replace(ok(_NAME, f"the policies hold in {count}{images}"), nodes=tuple(findings))


def _policies(facts: ClusterFacts, tenants: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What of the policies is missing beside others the check of the install says."""
    kinds = [facts.installed.get(kind, ()) for kind in (ADMISSION_POLICIES, ADMISSION_BINDINGS)]
    seen = [{key_of(item).name for item in items} for items in kinds if not isinstance(items, Exception)]
    if any(TENANTS not in names for names in seen):
        yield (
            f"no policy holds in {_some(tenants)}: pods there can take any GPU",
            "install again with --policy, and the options of the first time",
        )


def _nodes(facts: ClusterFacts) -> list[NodeFinding]:
    if isinstance(facts.nodes, errors.GpuyardError) or isinstance(facts.pods, errors.GpuyardError):
        return []
    found = GpuNodes.of(facts.nodes, facts.pods, facts.installed)
    toolkits = {
        str(pod["spec"].get("nodeName", "")): _of_toolkit(container)
        for pod in facts.pods
        for container in pod["spec"].get("containers") or ()
        if "container-toolkit" in container.get("image", "")
    }
    bindings = facts.installed.get(MUTATION_BINDINGS, ())
    if not isinstance(bindings, Exception) and TENANTS_VOID in {key_of(item).name for item in bindings}:
        # Containers without GPUs say void, whatever their image says.
        return []
    return [
        _finding(node, _exposure(node, found, toolkits))
        for node in found.with_gpus
        if not has_simulated_gpus(node)
    ]


def _exposure(node: Manifest, found: GpuNodes, toolkits: Mapping[str, Exposure]) -> Exposure:
    name = key_of(node).name
    exposure = Exposure.of(node).or_else(toolkits.get(name, Exposure()))
    if name in found.agents and found.agents[name]["spec"].get("runtimeClassName"):
        # That is how the agent got its GPUs: by the variable, without privileges.
        exposure = exposure.or_else(Exposure(variable=True))
    return exposure


def _of_toolkit(container: Mapping[str, Any]) -> Exposure:
    env = {entry["name"]: str(entry.get("value", "")).lower() for entry in container.get("env") or ()}
    default = next((env[name] for name in _SET_AS_DEFAULT if name in env), "true")
    return Exposure(default in _TRUE, env.get(_ACCEPT, "true") in _TRUE)


def _finding(node: Manifest, exposure: Exposure) -> NodeFinding:
    name = key_of(node).name
    if exposure.variable is False:
        return NodeFinding(name, CheckState.OK, "NVIDIA's runtime takes no GPU's name from images")
    if exposure.default_runtime:
        return NodeFinding(name, CheckState.WARNING, _OPEN, _CLOSE)
    if exposure.default_runtime is False:
        return NodeFinding(name, CheckState.OK, "NVIDIA's runtime is only for those who name it")
    if labels_of(node).get(LABEL_GPU_INJECTION) == "cdi":
        return NodeFinding(name, CheckState.OK, f"GPUs come by CDI alone, says {LABEL_GPU_INJECTION}")
    return NodeFinding(
        name,
        CheckState.WARNING,
        _UNKNOWN,
        "look there: containerd config dump | grep default_runtime_name; if it is runc, say so: kubectl label"
        f" node {name} {LABEL_GPU_INJECTION}=cdi",
    )


def _of_nodes(findings: Sequence[NodeFinding]) -> Iterator[tuple[str, str]]:
    for text in (_OPEN, _UNKNOWN):
        if bad := [finding for finding in findings if finding.message == text]:
            yield f"on {_some([finding.node for finding in bad])}, {text}", bad[0].remedy


def _volumes(facts: ClusterFacts, tenants: Sequence[str]) -> Iterator[tuple[str, str]]:
    if isinstance(facts.persistent_volumes, errors.GpuyardError):
        return
    for volume in facts.persistent_volumes:
        claim = volume["spec"].get("claimRef") or {}
        path = _folder_of_node(volume["spec"])
        if path and claim.get("namespace", tenants[0]) in tenants:
            name = key_of(volume).name
            yield (
                f"the PersistentVolume {name} is {path} of a node, and a tenant's claim may have it",
                f"delete it, or reserve it for another's claim by spec.claimRef: kubectl edit pv {name}",
            )


def _folder_of_node(spec: Mapping[str, Any]) -> str:
    """Which folder that is a node's own a volume is, holds or lies in; empty when it is none."""
    source = spec.get("hostPath") or spec.get("local") or {}
    path = posixpath.normpath(f"/{source.get('path', '')}".replace("//", "/"))
    # Disks that become a volume's file system lie in /dev.
    if not source or (spec.get("local") and path.startswith("/dev/")):
        return ""
    inside = any(path == folder or path.startswith(f"{folder}/") for folder in _OF_NODE)
    around = any(folder.startswith(path.rstrip("/") + "/") for folder in _OF_NODE)
    return path if inside or around else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_NAMED]) + (", …" if len(names) > _MAX_NAMED else "")
