"""Label sets of nodes as GPU feature discovery writes them: the names in use, and the older ones."""

from __future__ import annotations

_NODE = {
    "beta.kubernetes.io/arch": "amd64",
    "kubernetes.io/arch": "amd64",
    "kubernetes.io/hostname": "gpu-1",
    "kubernetes.io/os": "linux",
    "feature.node.kubernetes.io/pci-10de.present": "true",
}


def _nvidia(**labels: str) -> dict[str, str]:
    return {f"nvidia.com/{name}": value for name, value in labels.items()}


def discovered(
    product: str, driver: str, cuda: str, capability: str, family: str, **more: str
) -> dict[str, str]:
    """Everything that version 0.14 and later write: the names in use, and the deprecated ones beside them.

    Args:
        product: as the label has it.
        driver: such as 550.107.02.
        cuda: of the driver, such as 12.4.
        capability: such as 9.0.
        family: the architecture.
        more: further labels, without their prefix, or others' values.
    """
    major, minor, revision = (*driver.split("."), "")[:3]
    cuda_major, cuda_minor = cuda.split(".")
    compute_major, compute_minor = capability.split(".")
    labels = {
        "cuda.driver-version.full": driver,
        "cuda.driver-version.major": major,
        "cuda.driver-version.minor": minor,
        "cuda.driver-version.revision": revision,
        "cuda.driver.major": major,
        "cuda.driver.minor": minor,
        "cuda.driver.rev": revision,
        "cuda.runtime-version.full": cuda,
        "cuda.runtime-version.major": cuda_major,
        "cuda.runtime-version.minor": cuda_minor,
        "cuda.runtime.major": cuda_major,
        "cuda.runtime.minor": cuda_minor,
        "gfd.timestamp": "1732341600",
        "gpu.compute.major": compute_major,
        "gpu.compute.minor": compute_minor,
        "gpu.count": "8",
        "gpu.family": family,
        "gpu.machine": "DGX-H100",
        "gpu.memory": "81559",
        "gpu.mode": "compute",
        "gpu.product": product,
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "mig.capable": "true",
        "mig.strategy": "single",
        "mps.capable": "false",
    }
    return _NODE | _nvidia(**(labels | {name.replace("__", "-"): value for name, value in more.items()}))


def before_0_14(product: str, driver: str, cuda: str, capability: str) -> dict[str, str]:
    """What versions before 0.14 wrote."""
    driver_major, driver_minor, revision = (*driver.split("."), "")[:3]
    labels = {
        "cuda.driver.major": driver_major,
        "cuda.driver.minor": driver_minor,
        "cuda.driver.rev": revision,
        "cuda.runtime.major": cuda.split(".")[0],
        "cuda.runtime.minor": cuda.split(".")[1],
        "gfd.timestamp": "1642000000",
        "gpu.compute.major": capability.split(".")[0],
        "gpu.compute.minor": capability.split(".")[1],
        "gpu.count": "4",
        "gpu.machine": "PowerEdge-R750",
        "gpu.memory": "40536",
        "gpu.product": product,
    }
    return _NODE | _nvidia(**labels)
