"""Which of Kubernetes' resources are GPUs, and how many of them a pod asks for and a node has.

A slice of a GPU that is a resource of its own (MIG) counts as one: it is one device that a pod can have.
Sources: resource names of NVIDIA's and AMD's device plugins; Kubernetes' rules for what a pod requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gpuyard.kube.objects import labels_of
from gpuyard.kube.requests import effective_requests, parse_resources
from gpuyard.kube.wellknown import AMD, LABEL_SIMULATED, NVIDIA

if TYPE_CHECKING:
    from gpuyard.gpus.catalogue import GpuModel

_VENDORS = frozenset({NVIDIA, AMD})
#: NVIDIA's whole GPUs: what a run asks for where nothing speaks for another vendor's.
GPU_RESOURCE = f"{NVIDIA}/gpu"
WHOLE_GPUS = frozenset(f"{vendor}/gpu" for vendor in _VENDORS)
#: Of a slice: `nvidia.com/mig-1g.10gb`.
MIG_PREFIX = "nvidia.com/mig-"
#: Of what several containers share: `nvidia.com/gpu.shared`.
SHARED_SUFFIX = ".shared"

_REQUESTS, _LIMITS = "requests.", "limits."


def whole_gpus(vendor: str) -> str:
    """The resource of a vendor's whole GPUs: `amd.com/gpu`."""
    return f"{vendor}/gpu"


def vendor_of(resource: str) -> str:
    """Whose a resource is, by its name: `amd.com/gpu` → `amd.com`."""
    return resource.partition("/")[0]


def vendors_of(nodes: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Whose GPUs these nodes have, those that are unhealthy included."""
    return frozenset(
        vendor_of(name) for node in nodes for name, amount in gpu_capacity(node).items() if amount
    )


def mig_resource(profile: str) -> str:
    """The resource of a MIG profile: `1g.10gb+me` → `nvidia.com/mig-1g.10gb.me`."""
    return MIG_PREFIX + profile.replace("+", ".")


def model_resource(vendor: str, model: str) -> str:
    """The resource of a model of the catalogue: `nvidia.com/h100`; empty for a model that it doesn't know."""
    return f"{vendor}/{model.lower()}" if model else ""


def is_gpu(resource: str) -> bool:
    """Whether a resource is GPUs, shares of GPUs, or slices of GPUs."""
    whole = resource.removesuffix(SHARED_SUFFIX)
    return whole in WHOLE_GPUS or whole.startswith(MIG_PREFIX) or _is_model(whole)


def model_of_resource(resource: str) -> GpuModel | None:
    """The model of `nvidia.com/h100`; None for what isn't named after one."""
    vendor, _, name = resource.partition("/")
    if vendor not in _VENDORS or not name or resource in WHOLE_GPUS:
        return None
    # Only for what may be one: the catalogue takes its time to load.
    from gpuyard.gpus.catalogue import find_model

    found = find_model(name)
    return found if found is not None and found.name.lower() == name else None


def _is_model(resource: str) -> bool:
    return model_of_resource(resource) is not None


def gpus_in(amounts: Mapping[str, int]) -> int:
    """How many GPUs there are among parsed amounts of resources."""
    return sum(count for resource, count in amounts.items() if is_gpu(resource))


def gpu_request(resource: str, count: int) -> str:
    """What a user writes to have so many: `2`, `shared:2`, `1g.10gb:2`, `H100:2`; empty for no GPUs."""
    name = resource.removesuffix(SHARED_SUFFIX)
    is_share = name != resource
    if name in WHOLE_GPUS:
        return f"shared:{count}" if is_share else str(count)
    if name.startswith(MIG_PREFIX):
        what = name.removeprefix(MIG_PREFIX)
    elif model := model_of_resource(name):
        what = model.name
    else:
        return ""
    return f"{what}{SHARED_SUFFIX if is_share else ''}:{count}"


def gpus_text(amounts: Mapping[str, int], *, short: bool = False) -> str:
    """Amounts of GPUs in words: `2 GPUs`, `2 parts 1g.10gb`, `1 share of a GPU`; empty for none.

    Args:
        amounts: of resources.
        short: whole GPUs are a number alone.
    """
    gpus = {name: count for name, count in amounts.items() if is_gpu(name) and count}
    if short and gpus.keys() <= WHOLE_GPUS:
        return str(sum(gpus.values()) or "")
    return ", ".join(_kind_text(name, count) for name, count in gpus.items())


def _kind_text(resource: str, count: int) -> str:
    ending = "" if count == 1 else "s"
    name = resource.removesuffix(SHARED_SUFFIX)
    part = name.removeprefix(MIG_PREFIX) if name.startswith(MIG_PREFIX) else ""
    if name != resource:
        return f"{count} share{ending} of {part or ('a GPU' if count == 1 else 'GPUs')}"
    return f"{count} part{ending} {part}" if part else f"{count} GPU{ending}"


def pod_gpus(spec: Mapping[str, Any]) -> int:
    """How many GPUs a pod takes from its node, init containers and sidecars counted as Kubernetes does."""
    return gpus_in(pod_gpu_resources(spec))


def pod_gpu_resources(spec: Mapping[str, Any]) -> dict[str, int]:
    """The same by resource."""
    return {name: count for name, count in effective_requests(spec).items() if count and is_gpu(name)}


def wants_nvidia(spec: Mapping[str, Any]) -> bool:
    """Whether a pod takes GPUs of NVIDIA's, or parts or shares of them."""
    return any(is_gpu(name) and vendor_of(name) == NVIDIA for name in effective_requests(spec))


def capacity_gpus(node: Mapping[str, Any]) -> int:
    """How many GPUs a node has, those that are unhealthy included."""
    return _in_all(gpu_capacity(node))


def gpu_capacity(node: Mapping[str, Any]) -> Mapping[str, int]:
    """How many a node has of each resource that is GPUs, those that are unhealthy included."""
    return _gpus_of(node, "capacity")


def allocatable_gpus(node: Mapping[str, Any]) -> int:
    """How many GPUs a node's pods can have."""
    return _in_all(_gpus_of(node, "allocatable"))


def has_simulated_gpus(node: Mapping[str, Any]) -> bool:
    """Whether its GPUs are simulated."""
    return labels_of(node).get(LABEL_SIMULATED) == "true"


def quota_counts_nothing(key: str) -> bool:
    """Whether it is a quota's key for GPUs that the API server accepts, and never counts anything for.

    Of devices a ResourceQuota counts requests alone: `requests.nvidia.com/gpu`.
    """
    return is_gpu(key.removeprefix(_LIMITS))


def gpu_quota_key(key: str) -> str:
    """The quota's key that counts what one that counts nothing was meant to: `requests.nvidia.com/gpu`."""
    return _REQUESTS + key.removeprefix(_LIMITS)


def quota_counts_gpus(key: str) -> bool:
    """Whether a quota's key limits GPUs."""
    return key.startswith(_REQUESTS) and is_gpu(key.removeprefix(_REQUESTS))


def _in_all(amounts: Mapping[str, int]) -> int:
    """Their sum; GPUs that are offered by their model, too, count once."""
    whole = {vendor_of(name) for name, amount in amounts.items() if name in WHOLE_GPUS and amount}
    return sum(
        amount for name, amount in amounts.items() if not (_is_model(name) and vendor_of(name) in whole)
    )


def _gpus_of(node: Mapping[str, Any], field: str) -> Mapping[str, int]:
    amounts = (node.get("status") or {}).get(field) or {}
    return parse_resources({name: amount for name, amount in amounts.items() if is_gpu(name)})
