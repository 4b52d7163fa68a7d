from dataclasses import replace

import pytest

from gpuyard.agent.labels import family, label_patch, label_value, node_labels
from gpuyard.devices.inventory import Backend, Inventory
from gpuyard.devices.simulated import parse_simulation, simulate

SIMULATED = simulate(parse_simulation("H100:8"), seed="node")


def real() -> Inventory:
    gpus = tuple(replace(gpu, product="NVIDIA H100 80GB HBM3") for gpu in SIMULATED.gpus)
    return replace(
        SIMULATED, backend=Backend.NVML, gpus=gpus, driver_version="550.107.02", cuda_version=(12, 4)
    )


def test_real_gpus_have_nvidias_labels() -> None:
    assert node_labels(real()) == {
        "nvidia.com/gpu.count": "8",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.family": "hopper",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/cuda.driver-version.full": "550.107.02",
        "nvidia.com/cuda.driver-version.major": "550",
        "nvidia.com/cuda.driver-version.minor": "107",
        "nvidia.com/cuda.driver-version.revision": "02",
        "nvidia.com/cuda.runtime-version.full": "12.4",
        "nvidia.com/cuda.runtime-version.major": "12",
        "nvidia.com/cuda.runtime-version.minor": "4",
        "gpuyard.io/gpu-model": "H100",
    }


def test_simulated_gpus_say_so_twice() -> None:
    labels = node_labels(SIMULATED)
    assert labels["gpuyard.io/simulated"] == "true"
    assert labels["nvidia.com/gpu.product"] == "Simulated-NVIDIA-H100-80GB-HBM3"
    assert labels["gpuyard.io/gpu-model"] == "H100"


def test_health_does_not_change_labels() -> None:
    sick = SIMULATED.with_unhealthy(frozenset({SIMULATED.gpus[0].uuid}))
    assert node_labels(sick) == node_labels(SIMULATED)


def test_no_gpus_no_labels() -> None:
    assert node_labels(Inventory(Backend.NONE)) == {}


def test_what_is_unknown_is_left_out() -> None:
    gpu = replace(SIMULATED.gpus[0], product="", model="", memory_mib=0, compute_capability=(0, 0))
    labels = node_labels(Inventory(Backend.NVML, gpus=(gpu,)))
    assert not {name for name in labels if "cuda" in name or "family" in name or "product" in name}
    assert "gpuyard.io/gpu-model" not in labels


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((7, 0), "volta"),
        ((7, 5), "turing"),
        ((8, 6), "ampere"),
        ((8, 9), "ada-lovelace"),
        ((12, 0), "blackwell"),
    ],
)
def test_family(capability: tuple[int, int], name: str) -> None:
    assert family(capability) == name


def test_label_values_are_valid() -> None:
    assert label_value("NVIDIA RTX™ 6000 (Ada)") == "NVIDIA-RTX-6000-Ada"
    assert len(label_value("x" * 99)) == 63


def test_patch_sets_what_differs_and_removes_what_is_stale() -> None:
    current = {
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.family": "hopper",
        "gpuyard.io/simulated": "true",
        "kubernetes.io/hostname": "a",
    }
    wanted = {"nvidia.com/gpu.count": "8", "nvidia.com/gpu.family": "hopper"}
    assert label_patch(current, wanted) == {"nvidia.com/gpu.count": "8", "gpuyard.io/simulated": None}
    assert label_patch(wanted, wanted) == {}
