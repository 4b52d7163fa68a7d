from __future__ import annotations

from typing import Any

import pytest

from gpuyard.agent.labels.node import node_labels
from gpuyard.agent.served import serve
from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.offer import Injection, has_gpus, machine_of, offer_of, stated_offer
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from tests.unit.compatibility.node_labels import before_0_14, discovered

FACTS = load_facts()
NEW = {
    "nvidia.com/cuda.driver-version.full": "535.104.05",
    "nvidia.com/cuda.driver-version.major": "535",
    "nvidia.com/cuda.runtime-version.full": "12.2",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "kubernetes.io/arch": "amd64",
}
OLD = {
    "nvidia.com/cuda.driver.major": "535",
    "nvidia.com/cuda.driver.minor": "104",
    "nvidia.com/cuda.driver.rev": "05",
    "nvidia.com/cuda.runtime.major": "12",
    "nvidia.com/cuda.runtime.minor": "2",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
}


def node(labels: dict[str, str], **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n1", "labels": labels}, "status": status}


@pytest.mark.parametrize("labels", [NEW, OLD], ids=["new", "old"])
def test_labels_of_feature_discovery(labels: dict[str, str]) -> None:
    offer = offer_of(node(labels, nodeInfo={"architecture": "amd64"}), FACTS)
    assert (str(offer.driver), str(offer.cuda), str(offer.capability)) == ("535.104.05", "12.2", "9.0")
    assert (offer.brand, offer.data_center, offer.machine) == ("nvidia", True, "amd64")
    assert (offer.observed, offer.simulated, offer.injection) == (True, False, Injection.UNKNOWN)


H100 = discovered("NVIDIA-H100-80GB-HBM3", "550.107.02", "12.4", "9.0", "hopper")


@pytest.mark.parametrize(
    ("labels", "driver", "cuda", "capability", "brand", "data_center"),
    [
        (H100, "550.107.02", "12.4", "9.0", "nvidia", True),
        # One GPU in slices, by strategy single: the product is the slice's.
        (discovered("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "535.104.05", "12.2", "8.0", "ampere",
                    **{"gpu.multiprocessors": "14", "gpu.slices.gi": "1", "gpu.slices.ci": "1"}),
         "535.104.05", "12.2", "8.0", "nvidia", True),
        (discovered("NVIDIA-A100-SXM4-40GB-MIG-INVALID", "535.104.05", "12.2", "8.0", "ampere"),
         "535.104.05", "12.2", "8.0", "nvidia", True),
        # By strategy mixed: a resource of its own for each profile, and the whole GPU's product.
        (discovered("NVIDIA-H100-80GB-HBM3", "580.95.05", "13.0", "9.0", "hopper", **{
            "mig.strategy": "mixed", "mig-1g.10gb.count": "7", "mig-1g.10gb.product":
            "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "mig-1g.10gb.memory": "9728"}),
         "580.95.05", "13.0", "9.0", "nvidia", True),
        # Shared by time-slicing.
        (discovered("Tesla-T4-SHARED", "470.82.01", "11.4", "7.5", "turing",
                    **{"gpu.replicas": "10", "gpu.sharing-strategy": "time-slicing"}),
         "470.82.01", "11.4", "7.5", "tesla", True),
        (discovered("Tesla-V100-SXM2-16GB", "580.65.06", "13.0", "7.0", "volta"),
         "580.65.06", "13.0", "7.0", "tesla", True),
        (discovered("NVIDIA-A10G", "535.183.01", "12.2", "8.6", "ampere"),
         "535.183.01", "12.2", "8.6", "nvidia", True),
        (discovered("NVIDIA-L40S", "570.124.06", "12.8", "8.9", "ada-lovelace"),
         "570.124.06", "12.8", "8.9", "nvidia", True),
        (discovered("NVIDIA-B200", "570.124.06", "12.8", "10.0", "blackwell"),
         "570.124.06", "12.8", "10.0", "nvidia", True),
        (discovered("NVIDIA-GB10", "580.95.05", "13.0", "12.1", "blackwell"),
         "580.95.05", "13.0", "12.1", "nvidia", None),
        (discovered("NVIDIA-GeForce-RTX-4090", "550.54.15", "12.4", "8.9", "ada-lovelace"),
         "550.54.15", "12.4", "8.9", "geforcertx", False),
        (discovered("NVIDIA-RTX-A6000", "535.183.01", "12.2", "8.6", "ampere"),
         "535.183.01", "12.2", "8.6", "nvidiartx", None),
        (discovered("NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition", "580.95.05", "13.0", "12.0",
                    "blackwell"), "580.95.05", "13.0", "12.0", "nvidiartx", False),
        # A driver of two numbers: there is no revision.
        (discovered("NVIDIA-H100-80GB-HBM3", "615.61", "13.4", "9.0", "hopper"),
         "615.61", "13.4", "9.0", "nvidia", True),
        (before_0_14("NVIDIA-A100-SXM4-40GB", "470.57.02", "11.4", "8.0"),
         "470.57.02", "11.4", "8.0", "nvidia", True),
        (before_0_14("A100-SXM4-40GB", "450.80.02", "11.0", "8.0"),
         "450.80.02", "11.0", "8.0", "nvidia", True),
        (before_0_14("GeForce-GTX-1080-Ti", "455.32", "11.1", "6.1"),
         "455.32", "11.1", "6.1", "geforce", False),
        # A product that nobody has heard of yet: what the labels say of it, and no word of its class.
        (discovered("NVIDIA-Feynman-Something", "615.61", "13.4", "13.0", "rubin"),
         "615.61", "13.4", "13.0", "", None),
    ],
    ids=lambda value: value.get("nvidia.com/gpu.product") if isinstance(value, dict) else "",
)  # fmt: skip
def test_discovered_nodes(
    labels: dict[str, str], driver: str, cuda: str, capability: str, brand: str, data_center: bool | None
) -> None:
    offer = offer_of(node(labels, capacity={"nvidia.com/gpu": "0"}), FACTS)
    assert (str(offer.driver), str(offer.cuda), str(offer.capability)) == (driver, cuda, capability)
    assert (offer.brand, offer.data_center, offer.machine) == (brand, data_center, "amd64")
    assert offer.product == labels["nvidia.com/gpu.product"]
    assert offer.observed and not offer.simulated
    assert has_gpus(node(labels))


def test_the_names_in_use_win_over_the_deprecated_ones() -> None:
    stale = H100 | {"nvidia.com/cuda.driver.major": "470", "nvidia.com/cuda.runtime.minor": "0"}
    offer = offer_of(node(stale), FACTS)
    assert (str(offer.driver), str(offer.cuda)) == ("550.107.02", "12.4")
    parts = {name: value for name, value in H100.items() if not name.endswith("-version.full")}
    assert str(offer_of(node(parts), FACTS).driver) == "550.107.02"
    assert str(offer_of(node(parts), FACTS).cuda) == "12.4"


@pytest.mark.parametrize(
    ("simulation", "driver", "capability"),
    [("H100:8", "580.95.05", "9.0"), ("V100:1", "580.95.05", "7.0"), ("B200:8", "580.95.05", "10.0")],
)
def test_what_our_own_agent_writes(simulation: str, driver: str, capability: str) -> None:
    inventory = simulate(parse_simulation(simulation), seed="node")
    offer = offer_of(node(node_labels(serve(inventory))), FACTS)
    assert (str(offer.driver), str(offer.cuda), str(offer.capability)) == (driver, "13.0", capability)
    assert offer.simulated and offer.data_center
    named = stated_offer(simulation.partition(":")[0], driver, FACTS)
    assert (offer.brand, offer.capability) == (named.brand, named.capability)


def test_the_cpu_of_a_node() -> None:
    assert machine_of(node({"kubernetes.io/arch": "arm64"}, nodeInfo={"architecture": "amd64"})) == "arm64"
    assert machine_of(node({}, nodeInfo={"architecture": "amd64"})) == "amd64"
    assert machine_of(node({})) == ""


def test_what_labels_leave_out_comes_from_the_model_and_the_branch() -> None:
    labels = {"gpuyard.io/gpu-model": "V100", "nvidia.com/cuda.driver.major": "470"}
    offer = offer_of(node(labels), FACTS)
    assert (str(offer.capability), str(offer.cuda), offer.brand) == ("7.0", "11.4", "tesla")


@pytest.mark.parametrize("labels", [{}, {"nvidia.com/gpu.compute.major": "0"},
                                    {"nvidia.com/cuda.driver-version.full": "none"}])  # fmt: skip
def test_a_node_that_says_nothing(labels: dict[str, str]) -> None:
    offer = offer_of(node(labels), FACTS)
    assert (offer.driver, offer.cuda, offer.capability, offer.data_center) == (None, None, None, None)


def test_how_gpus_are_injected_is_a_label_of_ours() -> None:
    assert offer_of(node({"gpuyard.io/gpu-injection": "legacy"}), FACTS).injection is Injection.LEGACY
    assert offer_of(node({"gpuyard.io/gpu-injection": "magic"}), FACTS).injection is Injection.UNKNOWN


def test_nodes_with_gpus() -> None:
    assert has_gpus(node({}, capacity={"nvidia.com/gpu": "8"}))
    assert has_gpus(node({"gpuyard.io/gpu-model": "H100"}))
    assert not has_gpus(node({}, allocatable={"nvidia.com/gpu": "0", "cpu": "4"}))


def test_stated() -> None:
    offer = stated_offer("h100", "535.104.05", FACTS)
    assert (offer.name, str(offer.cuda), offer.observed) == ("H100 with driver 535.104.05", "12.2", False)
    assert stated_offer("GH200", "", FACTS).machine == "arm64"
    assert stated_offer("Jetson Thor", "", FACTS).machine == "arm64"
    workstation = stated_offer("RTX PRO 6000 Blackwell Workstation Edition", "", FACTS)
    assert (workstation.data_center, workstation.brand) == (False, "nvidiartx")
    assert str(stated_offer("K20", "R470", FACTS).capability) == "3.5"


@pytest.mark.parametrize(
    ("gpu", "driver", "message"),
    [
        ("H1000", "", "'H1000' is no GPU model that gpuyard knows; did you mean H100"),
        ("MI300X", "", "MI300X is no GPU of NVIDIA's"),
        ("H100", "new", "'new' is not a version; write for example 535.104.05"),
    ],
)
def test_what_cant_be_stated(gpu: str, driver: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        stated_offer(gpu, driver, FACTS)
