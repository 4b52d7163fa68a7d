from __future__ import annotations

from typing import Any

import pytest

from gpuyard.images.cuda.facts import load_facts
from gpuyard.images.cuda.offer import Injection, has_gpus, offer_of, stated_offer

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
