"""By which resource a run asks for its GPUs: as the nodes offer them (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpuyard.advice import advice
from gpuyard.gpus.resources import (
    SHARED_SUFFIX,
    gpu_capacity,
    model_of_resource,
    model_resource,
    vendor_of,
    vendors_of,
    whole_gpus,
)
from gpuyard.kube.objects import Manifest, labels_of
from gpuyard.kube.wellknown import LABEL_GPU_MODEL, NVIDIA
from gpuyard.workloads.spec.gpu_request import GpuRequest


def as_offered(gpus: GpuRequest, nodes: Sequence[Manifest]) -> tuple[GpuRequest, str]:
    """The request by the resource that the nodes have for it, and what its user should know of the choice.

    GPUs of any maker are NVIDIA's where there are any, else those of the one maker that there are GPUs of.
    GPUs that no node offers as `nvidia.com/gpu` are asked for by their model, `nvidia.com/h100`.

    Args:
        gpus: as the user wrote it.
        nodes: all that there are; none where the user may not see them.
    """
    if not gpus.of_any_vendor:
        return _by_model(gpus, nodes), ""
    vendors = _vendors_of_shares(nodes) if gpus.is_share else vendors_of(nodes)
    others = sorted(vendors - {NVIDIA})
    if not others or NVIDIA in vendors:
        found = _by_model(gpus, nodes)
        return found, _said_of_makers(found, nodes, others) if others else _said_of_models(found, nodes)
    found = _by_model(replace(gpus, vendor=others[0]), nodes)
    return found, _said_of_models(found, nodes)


def _by_model(gpus: GpuRequest, nodes: Iterable[Manifest]) -> GpuRequest:
    """By the model that a node has the most of, where no node offers such GPUs by another name."""
    if gpus.profile or gpus.is_share or any(_has_whole(node, gpus) for node in nodes):
        return gpus
    most: dict[str, int] = {}
    for node in nodes:
        for name, amount in gpu_capacity(node).items():
            most[name] = max(most.get(name, 0), amount)
    wanted = [model_resource(model.vendor, model.name) for model in gpus.models]
    found = [name for name, amount in most.items() if amount and (name in wanted or not wanted)]
    models = [model for name in sorted(found, key=lambda name: (-most[name], name)) if (
        model := model_of_resource(name)) is not None and model.vendor == gpus.vendor]  # fmt: skip
    return replace(gpus, models=(models[0],), by_model=True) if models else gpus


def _has_whole(node: Mapping[str, Any], gpus: GpuRequest) -> bool:
    models = {model.name for model in gpus.models}
    return bool(gpu_capacity(node).get(whole_gpus(gpus.vendor))) and (
        not models or labels_of(node).get(LABEL_GPU_MODEL) in models
    )


def _vendors_of_shares(nodes: Iterable[Manifest]) -> frozenset[str]:
    return frozenset(
        vendor_of(name)
        for node in nodes
        for name, amount in gpu_capacity(node).items()
        if amount and name.endswith(SHARED_SUFFIX)
    )


def _said_of_makers(gpus: GpuRequest, nodes: Iterable[Manifest], others: Sequence[str]) -> str:
    models = [labels_of(node).get(LABEL_GPU_MODEL, "") for node in nodes if vendors_of([node]) & {*others}]
    example = next(filter(None, models), "MI300X") + (SHARED_SUFFIX if gpus.is_share else "")
    how = f"{advice('--gpus')} {example}:{gpus.count} asks for others"
    return f"There are GPUs of several makers: this run gets {gpus.resource}; {how}"


def _said_of_models(gpus: GpuRequest, nodes: Iterable[Manifest]) -> str:
    """Which model it became, where a run that names none gets one of several."""
    if not gpus.by_model:
        return ""
    there = {name for node in nodes for name, amount in gpu_capacity(node).items() if amount}
    models = [model.name for name in sorted(there - {gpus.resource}) if (model := model_of_resource(name))]
    if not models:
        return ""
    how = f"{advice('--gpus')} {models[0]}:{gpus.count} asks for others"
    return f"Nodes offer GPUs by their model: this run gets {gpus.resource}; {how}"
