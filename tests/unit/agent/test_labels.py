from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gpuyard.agent.labels import family, label_value, node_labels, node_marks
from gpuyard.agent.served import serve
from gpuyard.devices.inventory import Backend, Health, Inventory
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.faults import GpuFault, node_faults
from gpuyard.tenancy.node_marks import GPU_LABELS

SIMULATED = simulate(parse_simulation("H100:8"), seed="node")


def real() -> Inventory:
    gpus = tuple(replace(gpu, product="NVIDIA H100 80GB HBM3") for gpu in SIMULATED.devices)
    return replace(
        SIMULATED, backend=Backend.NVML, devices=gpus, driver_version="550.107.02", cuda_version=(12, 4)
    )


def test_real_gpus_have_nvidias_labels() -> None:
    assert node_labels(real()) == {
        "nvidia.com/gpu.present": "true",
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


def test_labels_are_those_that_a_labeller_may_write() -> None:
    assert {*node_labels(real()), *node_labels(SIMULATED)} == set(GPU_LABELS)


def test_simulated_gpus_say_so_twice() -> None:
    labels = node_labels(SIMULATED)
    assert labels["gpuyard.io/simulated"] == "true"
    assert labels["nvidia.com/gpu.product"] == "Simulated-NVIDIA-H100-80GB-HBM3"
    assert labels["gpuyard.io/gpu-model"] == "H100"


def test_health_does_not_change_labels() -> None:
    sick = SIMULATED.with_health({SIMULATED.devices[0].uuid: Health("XID 79")})
    assert node_labels(sick) == node_labels(SIMULATED)


def test_what_is_wrong_with_gpus_goes_into_an_annotation() -> None:
    third = SIMULATED.devices[3]
    since = datetime(2026, 1, 31, 12, 3, 0, tzinfo=UTC)
    marks = node_marks(serve(SIMULATED.with_health({third.uuid: Health("XID 79", since)})))
    node = {"metadata": {"name": "a", "annotations": marks.annotations}}
    assert node_faults(node) == (GpuFault(3, third.uuid, "XID 79", "2026-01-31T12:03:00Z"),)
    assert set(node_marks(serve(SIMULATED)).annotations.values()) == {""}


def test_without_gpus_the_annotation_says_why() -> None:
    marks = node_marks(serve(Inventory(Backend.NONE, detail="no driver; install one")))
    assert marks.labels == {}
    assert marks.annotations["gpuyard.io/no-gpus"] == "no driver; install one"


def test_with_gpus_the_annotation_says_what_their_driver_does() -> None:
    marks = node_marks(serve(replace(SIMULATED, detail="the driver doesn't answer")))
    assert marks.labels
    assert (marks.annotations["gpuyard.io/gpu-driver"], marks.annotations["gpuyard.io/no-gpus"]) == (
        "the driver doesn't answer",
        "",
    )


def test_no_gpus_no_labels() -> None:
    assert node_labels(Inventory(Backend.NONE)) == {}


def test_what_is_unknown_is_left_out() -> None:
    gpu = replace(SIMULATED.devices[0], product="", model="", memory_mib=0, compute_capability=(0, 0))
    labels = node_labels(Inventory(Backend.NVML, devices=(gpu,)))
    assert not {name for name in labels if "cuda" in name or "family" in name or "product" in name}
    assert "gpuyard.io/gpu-model" not in labels


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((7, 0), "volta"),
        ((7, 5), "turing"),
        ((8, 6), "ampere"),
        ((8, 9), "ada-lovelace"),
        ((10, 3), "blackwell"),
        ((10, 7), "rubin"),
        ((11, 0), "blackwell"),
        ((12, 0), "blackwell"),
    ],
)
def test_family(capability: tuple[int, int], name: str) -> None:
    assert family(capability) == name


def test_label_values_are_valid() -> None:
    assert label_value("NVIDIA RTX™ 6000 (Ada)") == "NVIDIA-RTX-6000-Ada"
    assert len(label_value("x" * 99)) == 63
