"""Real spellings of real boards, and what must hold of the whole table."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.gpus.catalogue import MODELS, GpuModel, find_model, find_models, in_words, nearest

SPELLINGS = {
    # NVML
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100-PCIe",
    "NVIDIA H100 NVL": "H100-NVL",
    "NVIDIA H200": "H200",
    "NVIDIA GH200 480GB": "GH200",
    "NVIDIA B200": "B200",
    "NVIDIA GB200": "GB200",
    "NVIDIA B300 SXM6 AC": "B300",
    "NVIDIA A100-SXM4-40GB": "A100-40GB",
    "A100-SXM4-40GB": "A100-40GB",
    "NVIDIA A100-SXM4-80GB": "A100-80GB",
    "NVIDIA A100 80GB PCIe": "A100-80GB-PCIe",
    "NVIDIA A100-PCIE-40GB": "A100-40GB-PCIe",
    "Tesla V100-SXM2-16GB": "V100",
    "Tesla V100-SXM2-32GB": "V100-32GB",
    "Tesla V100-SXM3-32GB": "V100-32GB",
    "Tesla V100-PCIE-32GB": "V100-PCIe-32GB",
    "Tesla P100-PCIE-16GB": "P100-PCIe",
    "Tesla T4": "T4",
    "NVIDIA A10": "A10",
    "NVIDIA A10G": "A10G",
    "NVIDIA A30": "A30",
    "NVIDIA A40": "A40",
    "NVIDIA L4": "L4",
    "NVIDIA L40": "L40",
    "NVIDIA L40S": "L40S",
    "NVIDIA RTX A6000": "RTX-A6000",
    "NVIDIA RTX 6000 Ada Generation": "RTX-6000-Ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX-PRO-6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTX-PRO-6000",
    "NVIDIA GeForce RTX 3090": "RTX-3090",
    "GeForce RTX 3090": "RTX-3090",
    "NVIDIA GeForce RTX 4070 Ti": "RTX-4070-Ti",
    "NVIDIA GeForce RTX 5090": "RTX-5090",
    "Quadro RTX 6000": "RTX-6000",
    "AMD Instinct MI300X": "MI300X",
    "AMD_Instinct_MI300X_OAM": "MI300X",
    # GPU feature discovery's label
    "NVIDIA-H100-80GB-HBM3": "H100",
    "NVIDIA-H100-80GB-HBM3-SHARED": "H100",
    "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb": "A100-40GB",
    "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED": "A100-40GB",
    "NVIDIA-A100-SXM4-80GB-MIG-INVALID": "A100-80GB",
    "Tesla-T4-SHARED": "T4",
    "NVIDIA-GeForce-RTX-4090": "RTX-4090",
    # Clouds' labels
    "nvidia-tesla-t4": "T4",
    "nvidia-tesla-a100": "A100-40GB",
    "nvidia-a100-80gb": "A100-80GB",
    "nvidia-h100-80gb": "H100",
    "nvidia-h100-mega-80gb": "H100",
    "nvidia-h200-141gb": "H200",
    "nvidia-l4": "L4",
    # People
    "H100": "H100",
    "h100": "H100",
    " H100 ": "H100",
    "h100-sxm": "H100",
    "H100SXM5": "H100",
    "H100NVL": "H100-NVL",
    "a100": "A100-40GB",
    "a100-80gb": "A100-80GB",
    "A100 80GB": "A100-80GB",
    "A100_80GB": "A100-80GB",
    "v100": "V100",
    "rtx4090": "RTX-4090",
    "RTX 4090": "RTX-4090",
    "4090": "RTX-4090",
    "rtx_3080_ti": "RTX-3080-Ti",
    "3080Ti": "RTX-3080-Ti",
    "A6000": "RTX-A6000",
    "RTX6000-Ada": "RTX-6000-Ada",
    "mi300x": "MI300X",
    # Ours
    "Simulated H100": "H100",
    "Simulated-A100-80GB": "A100-80GB",
    "simulated NVIDIA L40S": "L40S",
}


@pytest.mark.parametrize(("text", "name"), SPELLINGS.items())
def test_spelling_leads_to_its_model(text: str, name: str) -> None:
    model = find_model(text)
    assert model is not None
    assert model.name == name


@pytest.mark.parametrize("text", ["", " ", "H1000", "GPU", "nvidia", "A100-120GB", "80GB", "TPU-v4", "🚀"])
def test_unknown_text_is_no_model(text: str) -> None:
    assert find_model(text) is None
    assert find_models(text) == ()


def test_a_loose_name_means_every_variant() -> None:
    assert {m.name for m in find_models("H100")} == {"H100", "H100-PCIe", "H100-NVL"}
    assert [m.name for m in find_models("A100-80GB")] == ["A100-80GB", "A100-80GB-PCIe"]
    assert [m.name for m in find_models("H100-PCIe")] == ["H100-PCIe"]
    assert [m.name for m in find_models("H100-SXM")] == ["H100"]


@pytest.mark.parametrize(
    ("text", "name"), [("H10O", "H100"), ("H1000", "H100"), ("L40SS", "L40S"), ("RTX-4900", "RTX-4090")]
)
def test_nearest_names_a_model(text: str, name: str) -> None:
    assert nearest(text) == name


def test_nearest_gives_up_on_what_resembles_nothing() -> None:
    assert nearest("quantum") is None
    assert nearest("") is None


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_row_is_sound(model: GpuModel) -> None:
    assert find_model(model.name) is model
    assert find_model(model.product) is model
    assert find_model(model.product.replace(" ", "-")) is model
    assert all(model in find_models(spelling) for spelling in model.spellings)
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", model.name), "a label value"
    assert 4096 <= model.memory_mib <= 400_000
    assert (model.compute_capability is None) == model.product.startswith("AMD")


def test_names_in_words() -> None:
    assert in_words([model.name for model in find_models("A100")]) == "any A100"
    assert in_words(["A100-40GB", "A100-80GB"]) == "A100-40GB or A100-80GB"
    assert (in_words(["H100"]), in_words([])) == ("H100", "")


def test_names_are_unique() -> None:
    assert len({model.name.lower() for model in MODELS}) == len(MODELS)


@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    model = find_model(text)
    assert model is None or model in MODELS
    hint = nearest(text)
    assert hint is None or find_model(hint) is not None
