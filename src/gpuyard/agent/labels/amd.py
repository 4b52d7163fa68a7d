"""The labels of AMD's node labeller (pure).

Where GPUs differ, the value moves into the name, and how many have it becomes the value:
`amd.com/gpu.vram.24G=1`. Source: ROCm/k8s-device-plugin cmd/k8s-node-labeller/main.go (`createLabels`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gpuyard.devices.inventory import AmdTraits, Device
from gpuyard.kube.names import label_value
from gpuyard.kube.wellknown import AMD

_MIB_PER_GIB = 1024


def amd_labels(gpus: Iterable[Device]) -> dict[str, str]:
    """Of a node with these GPUs of AMD's; an empty value stands for no label."""
    each = [(gpu, gpu.amd or AmdTraits()) for gpu in gpus]
    if not each:
        return {}
    traits = [of_gpu for _, of_gpu in each]
    partitions = {of_gpu.partition for of_gpu in traits}
    return {
        **_counted("device-id", (of_gpu.device_id for of_gpu in traits)),
        **_counted("product-name", (label_value(gpu.product.replace(" ", "_")) for gpu, _ in each)),
        **_counted("family", (of_gpu.family for of_gpu in traits)),
        **_counted("vram", (f"{round(gpu.memory_mib / _MIB_PER_GIB)}G" for gpu, _ in each)),
        **_counted("cu-count", (str(of_gpu.compute_units or "") for of_gpu in traits)),
        **_counted("simd-count", (str(of_gpu.simds or "") for of_gpu in traits)),
        f"{AMD}/gpu.driver-version": label_value(traits[0].driver_version),
        f"{AMD}/gpu.driver-src-version": label_value(traits[0].driver_src_version),
        f"{AMD}/compute-memory-partition": partitions.pop() if len(partitions) == 1 else "",
        f"{AMD}/compute-partitioning-supported": str(traits[0].can_split_compute).lower(),
        f"{AMD}/memory-partitioning-supported": str(traits[0].can_split_memory).lower(),
    }


def _counted(kind: str, values: Iterable[str]) -> dict[str, str]:
    counts = Counter(filter(None, values))
    if len(counts) == 1:
        return {f"{AMD}/gpu.{kind}": next(iter(counts))}
    return {f"{AMD}/gpu.{kind}.{value}": str(count) for value, count in counts.items()}
