"""What is written on nodes because of gpuyard, kept apart from what others wrote there.

A node's annotations record which labels, and whether the taint, are ours: only those are ever taken away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import annotations_of, labels_of
from gpuyard.kube.wellknown import (
    ANNOTATION_CDI,
    ANNOTATION_GPU_DRIVER,
    ANNOTATION_GPU_EXPOSURE,
    ANNOTATION_GPU_HEALTH,
    ANNOTATION_GPU_OCCUPANTS,
    ANNOTATION_LABELS_SET,
    ANNOTATION_NO_GPUS,
    ANNOTATION_TAINT_SET,
    ANNOTATION_UNOFFERED,
)

_PARTS = (
    "product|count|replicas|sharing-strategy|memory|multiprocessors"
    r"|slices\.(gi|ci)|engines\.(copy|decoder|encoder|jpeg|ofa)"
)
#: What a node with GPUs is labelled with because of them: names of NVIDIA's GPU feature discovery and of
#: AMD's node labeller, the one by which NVIDIA's operator and many manifests choose nodes (gpu.present), and
#: our own. Others' names have the same prefixes (`nvidia.com/gpu.deploy.…` starts NVIDIA's pods): ours are
#: these and no more. It is a pattern for a whole name, in the words that Python and CEL have in common.
GPU_LABEL_PATTERN = "|".join((
    r"nvidia\.com/gpu\.(present|family|machine|mode|clique|compute\.(major|minor))",
    # Of each resource: MIG profiles and models, too.
    rf"nvidia\.com/[a-z0-9][a-z0-9.-]*\.({_PARTS})",
    r"nvidia\.com/(gfd\.timestamp|mig\.capable|mig\.strategy|mps\.capable)",
    r"nvidia\.com/cuda\.(driver|runtime)(-version)?\.(full|major|minor|rev|revision)",
    r"amd\.com/gpu\.(device-id|product-name|family|vram|cu-count|simd-count)(\..+)?",
    r"amd\.com/(gpu\.driver(-src)?-version|compute-memory-partition|(compute|memory)-partitioning-supported)",
    # Of vendors that bring a backend of their own.
    r"[a-z0-9.-]+/gpu\.(present|count|product|memory)",
    r"gpuyard\.io/(gpu-model|gpu-count\..+|simulated|nvlink-domain|(nvlink|pcie|numa)-island)",
))  # fmt: skip
_GPU_LABEL = re.compile(GPU_LABEL_PATTERN)
TAINT = {"key": GPU_RESOURCE, "value": "present", "effect": "NoSchedule"}

#: Annotations that say what is wrong with a node's GPUs, and who else is on them.
REPORTS = (
    ANNOTATION_NO_GPUS,
    ANNOTATION_UNOFFERED,
    ANNOTATION_GPU_HEALTH,
    ANNOTATION_GPU_OCCUPANTS,
    ANNOTATION_GPU_DRIVER,
    ANNOTATION_CDI,
    ANNOTATION_GPU_EXPOSURE,
)


#: Conditions that are true while something is wrong with a node's GPUs: type → reason while nothing is.
CONDITIONS = {"GpuUnhealthy": "GpusHealthy", "GpuForeignProcess": "NoForeignProcess"}


def condition_patch(
    node: Mapping[str, Any], problems: Mapping[str, Mapping[str, str]] | None, now: str
) -> dict[str, Any]:
    """A strategic merge patch of the node's status after which CONDITIONS say this; empty when they do.

    Args:
        node: as it was read.
        problems: type → `reason` and `message` of those that are true; None for a node without GPUs, which
            has none of these conditions.
        now: the time, RFC 3339.
    """
    changed: list[dict[str, str]] = []
    for type_, fine in CONDITIONS.items():
        old = find_condition(node, type_)
        if problems is None:
            changed += [{"type": type_, "$patch": "delete"}] if old else []
            continue
        problem = problems.get(type_)
        wanted = (
            {"status": "True", **problem} if problem else {"status": "False", "reason": fine, "message": ""}
        )
        old = old or {}
        if any((old.get(name) or "") != value for name, value in wanted.items()):
            is_new = old.get("status") != wanted["status"]
            since = now if is_new else str(old.get("lastTransitionTime", now))
            changed.append({"type": type_, **wanted, "lastTransitionTime": since, "lastHeartbeatTime": now})
    return {"status": {"conditions": changed}} if changed else {}


def is_gpu_label(name: str) -> bool:
    """Whether a label describes GPUs, and an agent writes such."""
    return _GPU_LABEL.fullmatch(name) is not None


def is_marked(node: Mapping[str, Any]) -> bool:
    """Whether anything on the node is ours."""
    return bool(annotations_of(node).keys() & {ANNOTATION_LABELS_SET, ANNOTATION_TAINT_SET, *REPORTS})


def mark_patch(
    node: Mapping[str, Any], labels: Mapping[str, str], reports: Mapping[str, str], *, taint: bool
) -> dict[str, Any]:
    """A merge patch after which the node has these labels, and the taint if it shall; empty when it does.

    Of REPORTS it has those that are given and not empty; without labels no label of ours stays. A patch of
    taints replaces all of them, so it holds only for the node as it was read: after another's write it is a
    Conflict.
    """
    current = labels_of(node)
    recorded = set(filter(None, annotations_of(node).get(ANNOTATION_LABELS_SET, "").split(",")))
    changed: dict[str, Any] = {name: value for name, value in labels.items() if current.get(name) != value}
    ours = ",".join(sorted((recorded & labels.keys()) | changed.keys()))
    gone = dict.fromkeys(sorted((recorded - labels.keys()) & current.keys()))
    taints, tainted = _taints(node, taint)
    annotations = _changes(
        node,
        {
            ANNOTATION_LABELS_SET: ours,
            ANNOTATION_TAINT_SET: tainted,
            **{name: reports.get(name, "") for name in REPORTS},
        },
    )
    metadata: dict[str, Any] = {}
    if changed or gone:
        metadata["labels"] = changed | gone
    if annotations:
        metadata["annotations"] = annotations
    patch: dict[str, Any] = {"metadata": metadata} if metadata else {}
    if taints is not None:
        metadata["resourceVersion"] = node["metadata"]["resourceVersion"]
        patch["spec"] = {"taints": taints}
    return patch


def _taints(node: Mapping[str, Any], wanted: bool) -> tuple[list[Any] | None, str]:
    """The node's taints to be, None to leave them; and the record of whether ours is among them."""
    taints: list[Any] = list(node.get("spec", {}).get("taints") or ())
    ours = ANNOTATION_TAINT_SET in annotations_of(node)
    # A node has one taint of a key and effect: another value there keeps the same pods away.
    same = [t for t in taints if (t["key"], t["effect"]) == (TAINT["key"], TAINT["effect"])]
    if wanted and not same:
        return [*taints, dict(TAINT)], "true"
    if wanted:
        return None, "true" if ours else ""
    if ours and same:
        return [t for t in taints if t not in same], ""
    return None, ""


def _changes(node: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, str | None]:
    current = annotations_of(node)
    return {name: value or None for name, value in wanted.items() if (current.get(name) or "") != value}
