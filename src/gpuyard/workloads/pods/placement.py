"""Where a pod may be placed: its user's selector, tolerations and affinity, and ours (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.gpus.resources import GPU_RESOURCE, whole_gpus
from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.workloads.spec.run_spec import RunSpec


def placement(spec: RunSpec, excluded_nodes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Fields of a pod's spec.

    Args:
        spec: of the run.
        excluded_nodes: a node selector requirement that keeps it off nodes where it wouldn't run.
    """
    fields: dict[str, Any] = {}
    if spec.priority:
        fields["priorityClassName"] = spec.priority
    if spec.node_selector:
        fields["nodeSelector"] = dict(spec.node_selector)
    tolerations = [dict(toleration) for toleration in spec.tolerations]
    if spec.gpus.count:
        # Nodes with GPUs are often tainted against everything else, and clusters don't add this by default.
        # gpuyard's own taint has NVIDIA's name, whosever the GPUs are.
        keys = dict.fromkeys((GPU_RESOURCE, whole_gpus(spec.gpus.vendor)))
        tolerations += [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
    if tolerations:
        fields["tolerations"] = tolerations
    affinity = _affinity(spec, excluded_nodes)
    if affinity:
        fields["affinity"] = affinity
    return fields


def _affinity(spec: RunSpec, excluded_nodes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The user's affinity; in each of its required node terms, of which one must hold, our own as well."""
    affinity: dict[str, Any] = dict(spec.affinity or {})
    ours: list[Mapping[str, Any]] = []
    if spec.gpus.models and not spec.gpus.by_model:
        names = [model.name for model in spec.gpus.models]
        ours.append({"key": LABEL_GPU_MODEL, "operator": "In", "values": names})
    if excluded_nodes:
        ours.append(dict(excluded_nodes))
    if not ours:
        return affinity
    node: dict[str, Any] = dict(affinity.get("nodeAffinity") or {})
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    written: list[dict[str, Any]] = required.get("nodeSelectorTerms") or [{}]
    terms = [{**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *ours]} for term in written]
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": node}
