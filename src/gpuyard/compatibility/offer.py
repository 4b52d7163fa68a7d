"""What a node offers to an image: driver, its CUDA, compute capability, product, CPU architecture.

From the labels of GPU feature discovery (both the names of 0.14 and later and the older ones) and the node's
own, or from what a user states.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gpuyard.compatibility.facts import Facts, Product
from gpuyard.compatibility.version import Capability, Version
from gpuyard.gpus.catalogue import GpuModel, find_model, nearest
from gpuyard.gpus.resources import is_gpu
from gpuyard.kube.objects import Manifest, labels_of
from gpuyard.kube.wellknown import (
    LABEL_GPU_INJECTION,
    LABEL_GPU_MODEL,
    LABEL_GPU_PRODUCT,
    LABEL_SIMULATED,
    NVIDIA,
)

_NVIDIA = f"{NVIDIA}/"


class Injection(StrEnum):
    """How GPUs get into containers: by CDI, which doesn't check NVIDIA_REQUIRE_*, or the older hook."""

    CDI = "cdi"
    LEGACY = "legacy"
    UNKNOWN = ""


@dataclass(frozen=True)
class Offer:
    """One node, or one GPU with a driver. None and empty mean not known.

    Attributes:
        name: of the node, or what was stated.
        driver: the kernel driver's version.
        cuda: the newest CUDA that the driver reports.
        capability: of its GPUs (a node's are taken to be alike).
        product: name of the GPU.
        brand: NVML's word for the product line.
        data_center: whether the product is one for data centres, as forward compatibility asks; None also
            where that depends on the system that it is in.
        machine: CPU architecture as Kubernetes writes it.
        injection: how GPUs get into containers.
        observed: a node that runs: its driver does drive its GPU.
        simulated: its GPUs are make-believe.
    """

    name: str
    driver: Version | None = None
    cuda: Version | None = None
    capability: Capability | None = None
    product: str = ""
    brand: str = ""
    data_center: bool | None = None
    machine: str = ""
    injection: Injection = Injection.UNKNOWN
    observed: bool = False
    simulated: bool = False

    @property
    def kind(self) -> Offer:
        """The same without a name: nodes of one kind are judged alike."""
        return replace(self, name="")

    def properties(self) -> dict[str, str]:
        """What NVIDIA_REQUIRE_* compares with."""
        cuda = str(self.cuda.minor) if self.cuda else ""
        arch = str(self.capability or "")
        return {"cuda": cuda, "driver": str(self.driver or ""), "arch": arch, "brand": self.brand}


def has_gpus(node: Manifest) -> bool:
    """Whether a node has GPUs of NVIDIA's to allot, or says that it will."""
    status = node.get("status") or {}
    amounts = {**(status.get("capacity") or {}), **(status.get("allocatable") or {})}
    return any(
        is_gpu(name) and name.startswith(_NVIDIA) and amount != "0" for name, amount in amounts.items()
    ) or (LABEL_GPU_PRODUCT in labels_of(node) or _is_nvidia(labels_of(node).get(LABEL_GPU_MODEL, "")))


def _is_nvidia(model: str) -> bool:
    found = find_model(model)
    return bool(model) and (found is None or found.vendor == NVIDIA)


def offer_of(node: Manifest, facts: Facts) -> Offer:
    """What this node offers, as far as its labels say."""
    labels = labels_of(node)
    product = labels.get(LABEL_GPU_PRODUCT, "")
    model = find_model(product) or find_model(labels.get(LABEL_GPU_MODEL, ""))
    capability = _capability(labels)
    if capability is None and model and model.compute_capability:
        capability = Capability(*model.compute_capability)
    driver = _version_label(labels, _DRIVER)
    cuda = _version_label(labels, _RUNTIME)
    kind = _kind(product, model, facts)
    injection = labels.get(LABEL_GPU_INJECTION, "")
    return Offer(
        name=node["metadata"]["name"],
        driver=driver,
        cuda=cuda or (facts.driver_cuda(driver) if driver else None),
        capability=capability,
        product=product or (model.product if model else ""),
        brand=kind.brand if kind else "",
        data_center=kind.data_center if kind else None,
        machine=machine_of(node),
        injection=Injection(injection) if injection in list(Injection) else Injection.UNKNOWN,
        observed=True,
        simulated=labels.get(LABEL_SIMULATED) == "true",
    )


def machine_of(node: Manifest) -> str:
    """CPU architecture of a node, as Kubernetes writes it; empty when it doesn't say."""
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return labels_of(node).get("kubernetes.io/arch", "") or str(info.get("architecture", ""))


def stated_offer(gpu: str, driver: str, facts: Facts) -> Offer:
    """What a GPU with this driver would offer; an empty driver is an unknown one.

    Raises:
        ValueError: an unknown GPU, or no driver version.
    """
    model = find_model(gpu)
    row = None if model else facts.gpu_of_model(gpu)
    if model is None and row is None:
        near = nearest(gpu)
        raise ValueError(
            f"{gpu!r} is no GPU model that gpuyard knows" + (f"; did you mean {near}?" if near else "")
        )
    if model and model.compute_capability is None:
        raise ValueError(f"{model.name} is no GPU of NVIDIA's, so CUDA doesn't run on it")
    version = Version.parse(driver) if driver else None
    capability = row.capability if row else None
    if model and model.compute_capability:
        capability = Capability(*model.compute_capability)
    product = model.product if model else gpu
    kind = _kind(gpu, model, facts)
    jetson = row is not None and all(name.startswith("Jetson") for name in row.models)
    return Offer(
        name=f"{model.name if model else gpu}" + (f" with driver {version}" if version else ""),
        driver=version,
        cuda=facts.driver_cuda(version) if version else None,
        capability=capability,
        product=product,
        brand=kind.brand if kind else "",
        data_center=kind.data_center if kind else None,
        machine="arm64" if jetson or (model and model.form in ("superchip", "SoC")) else "",
    )


def _kind(said: str, model: GpuModel | None, facts: Facts) -> Product | None:
    """Brand and class of a product: an edition that is named counts before the model's most usual one."""
    edition = re.search(r"workstation|max-?q|laptop|server", said, re.IGNORECASE)
    return facts.product(model.product if model and not edition else said)


_DRIVER = (
    ("cuda.driver-version.full",),
    ("cuda.driver-version.major", "cuda.driver-version.minor", "cuda.driver-version.revision"),
    ("cuda.driver.major", "cuda.driver.minor", "cuda.driver.rev"),
)
_RUNTIME = (
    ("cuda.runtime-version.full",),
    ("cuda.runtime-version.major", "cuda.runtime-version.minor"),
    ("cuda.runtime.major", "cuda.runtime.minor"),
)


def _version_label(labels: Mapping[str, str], spellings: tuple[tuple[str, ...], ...]) -> Version | None:
    """The version that one of these groups of labels spells, the first that is there and is one."""
    for names in spellings:
        parts = [part for name in names if (part := labels.get(_NVIDIA + name, ""))]
        if parts and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text := ".".join(parts)):
            return Version.parse(text)
    return None


def _capability(labels: Mapping[str, str]) -> Capability | None:
    major = labels.get(f"{_NVIDIA}gpu.compute.major", "")
    minor = labels.get(f"{_NVIDIA}gpu.compute.minor", "0")
    # Our agent writes 0.0 for what has none.
    return (
        Capability(int(major), int(minor)) if major.isdecimal() and minor.isdecimal() and int(major) else None
    )
