import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard.agent.labels.node import node_labels, node_marks
from gpuyard.agent.labels.nvidia import family
from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.agent.served import Serving, serve
from gpuyard.devices.amd.gpus import read_gpus
from gpuyard.devices.inventory import Backend, Health, Inventory
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.faults import GpuFault, node_faults
from gpuyard.kube.names import label_value
from gpuyard.tenancy.node_marks import is_gpu_label
from tests.amd_machines import AmdMachine

GOLDEN = Path(__file__).parent / "node_shapes"
SIMULATED = simulate(parse_simulation("H100:8"), seed="node")


def test_every_label_may_be_written() -> None:
    for file in GOLDEN.glob("*.json"):
        names = json.loads(file.read_text())["labels"]
        assert not [name for name in names if not is_gpu_label(name)], file


@pytest.mark.parametrize(
    "name",
    ["nvidia.com/gpu.deploy.driver", "nvidia.com/gpu-driver-upgrade-state", "kubernetes.io/hostname",
     "gpuyard.io/gpu-injection", "amd.com/gpu.deploy", "nvidia.com/mig.config"],
)  # fmt: skip
def test_labels_of_others_may_not(name: str) -> None:
    assert not is_gpu_label(name)


def test_a_mixed_node_matches_no_model_and_counts_each() -> None:
    """A pod that asks for a model could get another's GPU there."""
    others = simulate(parse_simulation("L40S:2"), seed="node").devices
    gpus = (*others, *SIMULATED.devices[:6])
    labels = node_labels(serve(replace(SIMULATED, devices=gpus)))
    assert labels["gpuyard.io/gpu-model"] == "mixed"
    assert (labels["gpuyard.io/gpu-count.H100"], labels["gpuyard.io/gpu-count.L40S"]) == ("6", "2")
    assert labels["nvidia.com/gpu.count"] == "8"
    # What each of them has at least.
    assert labels["nvidia.com/gpu.memory"] == "46068"
    assert (labels["nvidia.com/gpu.compute.major"], labels["nvidia.com/gpu.compute.minor"]) == ("8", "9")
    assert not {"nvidia.com/gpu.product", "nvidia.com/gpu.family"} & labels.keys()


def test_a_resource_that_sharing_renames_is_described_under_its_own_name() -> None:
    rule = Sharing(SharingStrategy.TIME_SLICING, 4, renamed="nvidia.com/gpu.shared")
    labels = node_labels(serve(SIMULATED, Serving(sharing=(rule,))))
    assert labels["nvidia.com/gpu.product"] == "Simulated-NVIDIA-H100-80GB-HBM3"
    assert (labels["nvidia.com/gpu.count"], labels["nvidia.com/gpu.replicas"]) == ("8", "4")
    assert labels["nvidia.com/gpu.sharing-strategy"] == "time-slicing"
    assert not [name for name in labels if "gpu.shared" in name]


def test_several_kinds_of_amds_gpus_are_counted(tmp_path: Path) -> None:
    machine = AmdMachine("radeon", tmp_path)
    found = read_gpus(machine.sys_root, tmp_path)
    other = replace(found.devices[0], uuid="GPU-2", product="AMD Radeon RX 7900 XT", model="RX-7900-XT")
    labels = node_labels(serve(replace(found, devices=(*found.devices, other))))
    assert labels["amd.com/gpu.product-name.AMD_Radeon_RX_7900_XTX"] == "1"
    assert labels["amd.com/gpu.product-name.AMD_Radeon_RX_7900_XT"] == "1"
    assert labels["amd.com/gpu.device-id"] == "744c"
    assert not [name for name in labels if name.startswith("nvidia.com/")]


def test_another_vendors_gpus_have_what_any_gpu_has() -> None:
    gpu = replace(SIMULATED.devices[0], vendor="acme.example", product="Acme 1", model="", memory_mib=8192)
    labels = node_labels(serve(replace(SIMULATED, backend=Backend.NVML, devices=(gpu,))))
    assert {name: value for name, value in labels.items() if "acme" in name} == {
        "acme.example/gpu.present": "true",
        "acme.example/gpu.count": "1",
        "acme.example/gpu.product": "Acme-1",
        "acme.example/gpu.memory": "8192",
    }


def test_simulated_gpus_say_so_twice() -> None:
    labels = node_labels(serve(SIMULATED))
    assert labels["gpuyard.io/simulated"] == "true"
    assert labels["nvidia.com/gpu.product"] == "Simulated-NVIDIA-H100-80GB-HBM3"
    assert labels["gpuyard.io/gpu-model"] == "H100"


def test_health_does_not_change_labels() -> None:
    sick = SIMULATED.with_health({SIMULATED.devices[0].uuid: Health("XID 79")})
    assert node_labels(serve(sick)) == node_labels(serve(SIMULATED))


def test_what_is_wrong_with_gpus_goes_into_an_annotation() -> None:
    third = SIMULATED.devices[3]
    since = datetime(2026, 1, 31, 12, 3, 0, tzinfo=UTC)
    marks = node_marks(serve(SIMULATED.with_health({third.uuid: Health("XID 79", since)})))
    node = {"metadata": {"name": "a", "annotations": marks.annotations}}
    assert node_faults(node) == (GpuFault(3, third.uuid, "XID 79", "2026-01-31T12:03:00Z"),)
    assert set(node_marks(serve(SIMULATED)).annotations.values()) == {""}


def test_how_gpus_are_offered_is_said_of_each() -> None:
    first, second, *_ = (gpu.uuid for gpu in SIMULATED.devices)
    slices = Sharing(SharingStrategy.TIME_SLICING, 4, devices=("0",))
    # More than an MPS server has clients.
    mps = Sharing(SharingStrategy.MPS, 99, devices=("1",))
    assert node_marks(serve(SIMULATED, Serving(sharing=(slices, mps)))).gpus == {
        first: {"sharing": "time-slicing", "replicas": "4"},
        second: {"unoffered": "can have 48 clients of MPS, not 99: it is one container's alone"},
    }


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
    assert node_labels(serve(Inventory(Backend.NONE))) == {}


def test_what_is_unknown_is_left_out() -> None:
    gpu = replace(SIMULATED.devices[0], product="", model="", memory_mib=0, compute_capability=(0, 0))
    labels = node_labels(serve(Inventory(Backend.NVML, devices=(gpu,))))
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
