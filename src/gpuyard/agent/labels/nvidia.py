"""The labels of NVIDIA's GPU feature discovery (pure), for nodes with different GPUs too.

Each label holds for all that its resource hands out: where GPUs differ, numbers are the least of them, and a
name that only some have is left out. GPU feature discovery describes one of them then, whichever comes last.
Source: NVIDIA/k8s-device-plugin internal/lm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gpuyard.agent.options.sharing import SharingStrategy
from gpuyard.agent.served import MigStrategy, Served, ServedDevice
from gpuyard.devices.inventory import Device, Inventory
from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.kube.names import label_value
from gpuyard.kube.wellknown import NVIDIA

#: Compute capability → architecture, as GPU feature discovery spells it. The entry that counts is the
#: last one that isn't above the GPU's.
_FAMILIES = (
    ((3, 0), "kepler"),
    ((5, 0), "maxwell"),
    ((6, 0), "pascal"),
    ((7, 0), "volta"),
    ((7, 5), "turing"),
    ((8, 0), "ampere"),
    ((8, 9), "ada-lovelace"),
    ((9, 0), "hopper"),
    ((10, 0), "blackwell"),
    ((10, 7), "rubin"),
    ((11, 0), "blackwell"),
)


def nvidia_labels(served: Served, made_s: int) -> dict[str, str]:
    """Of a node with GPUs of NVIDIA's; an empty value stands for no label.

    Args:
        served: what the node offers.
        made_s: when they were made, seconds since 1970.
    """
    inventory = served.inventory
    gpus = [gpu for gpu in inventory.devices if gpu.vendor == NVIDIA]
    if not gpus:
        return {}
    strategy = served.serving.mig_strategy
    devices = [device for device in served.devices if device.gpu.vendor == NVIDIA]
    mps = any(device.sharing and device.sharing.strategy is SharingStrategy.MPS for device in devices)
    labels = {
        f"{NVIDIA}/gpu.present": "true",
        f"{NVIDIA}/gfd.timestamp": str(made_s),
        f"{NVIDIA}/gpu.machine": label_value(inventory.machine),
        f"{NVIDIA}/gpu.mode": _mode(gpus),
        f"{NVIDIA}/gpu.clique": inventory.clique,
        f"{NVIDIA}/mig.capable": _truth(any(gpu.mig is not None for gpu in gpus)),
        f"{NVIDIA}/mig.strategy": "" if strategy is MigStrategy.NONE else strategy.value,
        f"{NVIDIA}/mps.capable": _truth(mps),
        **_versions(inventory),
    }
    for resource, of_it in _by_resource(devices).items():
        labels |= _resource(resource, of_it)
    if GPU_RESOURCE + ".count" not in labels:
        labels |= _nothing_whole(gpus, strategy)
    labels |= _architecture(gpus)
    return labels


def family(compute_capability: tuple[int, int]) -> str:
    """The architecture of a compute capability; empty when it is older than any known."""
    return next((name for first, name in reversed(_FAMILIES) if first <= compute_capability), "")


def _by_resource(devices: Iterable[ServedDevice]) -> Mapping[str, Sequence[ServedDevice]]:
    """By the name that a resource has where sharing renames nothing."""
    found: dict[str, list[ServedDevice]] = {}
    for device in devices:
        resource = device.sharing.resource if device.sharing else device.resource
        found.setdefault(resource, []).append(device)
    return found


def _resource(resource: str, devices: Sequence[ServedDevice]) -> dict[str, str]:
    ids = {device.uuid: 0 for device in devices}
    for device in devices:
        ids[device.uuid] += 1
    shared = {device.sharing.strategy.value for device in devices if device.sharing}
    renamed = all(device.sharing and device.sharing.renamed for device in devices)
    product = _same(_product(device) for device in devices)
    suffix = "-SHARED" if product and shared and not renamed else ""
    labels = {
        f"{resource}.product": label_value(product, suffix),
        f"{resource}.count": str(len(ids)),
        # Where devices differ, those that most share and that isolate least: a pod has to reckon with them.
        f"{resource}.replicas": str(max(ids.values())),
        f"{resource}.sharing-strategy": max(shared, default="none"),
        f"{resource}.memory": str(
            min(each.instance.memory_mib if each.instance else each.gpu.memory_mib for each in devices)
        ),
    }
    instances = [device.instance for device in devices if device.instance]
    if len(instances) == len(devices):
        one = min(instances, key=lambda each: each.multiprocessors)
        labels |= {
            f"{resource}.multiprocessors": str(one.multiprocessors),
            f"{resource}.slices.gi": str(one.gi_slices),
            f"{resource}.slices.ci": str(one.ci_slices),
            f"{resource}.engines.copy": str(one.engines.copy),
            f"{resource}.engines.decoder": str(one.engines.decoder),
            f"{resource}.engines.encoder": str(one.engines.encoder),
            f"{resource}.engines.jpeg": str(one.engines.jpeg),
            f"{resource}.engines.ofa": str(one.engines.ofa),
        }
    return labels


def _product(device: ServedDevice) -> str:
    return f"{device.gpu.product}-MIG-{device.instance.profile}" if device.instance else device.gpu.product


def _nothing_whole(gpus: Sequence[Device], strategy: MigStrategy) -> dict[str, str]:
    """Where no `nvidia.com/gpu` can be had: GPUs that aren't split as the strategy wants, or only parts."""
    product = _same(gpu.product for gpu in gpus)
    invalid = "-MIG-INVALID" if strategy is MigStrategy.SINGLE else ""
    return {
        f"{GPU_RESOURCE}.product": label_value(product, invalid) if product else "",
        f"{GPU_RESOURCE}.count": str(0 if invalid else len(gpus)),
        f"{GPU_RESOURCE}.replicas": "0",
        f"{GPU_RESOURCE}.memory": str(0 if invalid else min(gpu.memory_mib for gpu in gpus)),
        f"{GPU_RESOURCE}.sharing-strategy": "none",
    }


def _architecture(gpus: Sequence[Device]) -> dict[str, str]:
    major, minor = min(gpu.compute_capability for gpu in gpus)
    return {
        f"{GPU_RESOURCE}.family": _same(family(gpu.compute_capability) for gpu in gpus),
        f"{GPU_RESOURCE}.compute.major": str(major),
        f"{GPU_RESOURCE}.compute.minor": str(minor),
    }


def _mode(gpus: Iterable[Device]) -> str:
    """As GPU feature discovery has it by PCI's class: whether they drive displays."""
    return {"0x0300": "graphics", "0x0302": "compute"}.get(
        _same(gpu.pci_class[:6] for gpu in gpus), "unknown"
    )


def _same(texts: Iterable[str]) -> str:
    """What all say; empty where they differ."""
    found = set(texts)
    return found.pop() if len(found) == 1 else ""


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _versions(inventory: Inventory) -> dict[str, str]:
    """Of the driver and its CUDA, also under the names that GPU feature discovery had before 0.14."""
    driver = [*inventory.driver_version.split("."), "", ""][:3] if inventory.driver_version else ["", "", ""]
    major, minor = map(str, inventory.cuda_version) if inventory.cuda_version[0] else ("", "")
    return {
        f"{NVIDIA}/cuda.driver-version.full": inventory.driver_version,
        f"{NVIDIA}/cuda.driver-version.major": driver[0],
        f"{NVIDIA}/cuda.driver-version.minor": driver[1],
        f"{NVIDIA}/cuda.driver-version.revision": driver[2],
        f"{NVIDIA}/cuda.driver.major": driver[0],
        f"{NVIDIA}/cuda.driver.minor": driver[1],
        f"{NVIDIA}/cuda.driver.rev": driver[2],
        f"{NVIDIA}/cuda.runtime-version.full": f"{major}.{minor}".strip("."),
        f"{NVIDIA}/cuda.runtime-version.major": major,
        f"{NVIDIA}/cuda.runtime-version.minor": minor,
        f"{NVIDIA}/cuda.runtime.major": major,
        f"{NVIDIA}/cuda.runtime.minor": minor,
    }
