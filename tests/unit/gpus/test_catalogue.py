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
    "NVIDIA GB200 NVL": "GB200",
    "NVIDIA B300 SXM6 AC": "B300",
    "NVIDIA GB300": "GB300",
    "NVIDIA GB300 NVL": "GB300",
    "NVIDIA RTX 6000D": "RTX-6000D",
    "NVIDIA RTX PRO 6000D": "RTX-6000D",
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
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTX-PRO-6000-WS",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "RTX-PRO-6000-Max-Q",
    "NVIDIA RTX PRO 2000 Blackwell": "RTX-PRO-2000",
    "NVIDIA RTX PRO 4500 Blackwell": "RTX-PRO-4500",
    "NVIDIA RTX PRO 4500 Blackwell Server Edition": "RTX-PRO-4500-Server",
    "NVIDIA RTX PRO 5000 Blackwell": "RTX-PRO-5000",
    "NVIDIA RTX PRO 5000 72GB Blackwell": "RTX-PRO-5000-72GB",
    "NVIDIA RTX 4500 Ada Generation": "RTX-4500-Ada",
    "NVIDIA RTX A1000": "RTX-A1000",
    "NVIDIA T400 4GB": "T400",
    "NVIDIA T1000": "T1000",
    "NVIDIA T1000 8GB": "T1000",
    "NVIDIA L2": "L2",
    "NVIDIA A100X": "A100X",
    "NVIDIA GeForce RTX 4070 Ti SUPER": "RTX-4070-Ti-SUPER",
    "NVIDIA GeForce RTX 4090 D": "RTX-4090-D",
    "NVIDIA GeForce RTX 5090 D": "RTX-5090-D",
    "NVIDIA GeForce RTX 5090 D v2": "RTX-5090-D-v2",
    "NVIDIA GeForce GTX 1660 SUPER": "GTX-1660",
    "NVIDIA TITAN X (Pascal)": "TITAN-X-Pascal",
    "NVIDIA Thor": "Jetson-AGX-Thor",
    "Orin (nvgpu)": "Jetson-AGX-Orin",
    "NVIDIA Tegra Orin (nvgpu)": "Jetson-AGX-Orin",
    # Laptops
    "NVIDIA GeForce RTX 4090 Laptop GPU": "RTX-4090-Laptop",
    "NVIDIA GeForce RTX 3050Ti Laptop GPU": "RTX-3050-Ti-Laptop",
    "NVIDIA-GeForce-RTX-5070-Ti-Laptop-GPU-SHARED": "RTX-5070-Ti-Laptop",
    "NVIDIA RTX A2000 8GB Laptop GPU": "RTX-A2000-Laptop",
    "NVIDIA RTX A1000 Embedded GPU": "RTX-A1000-Laptop",
    "NVIDIA RTX 3500 Ada Generation Laptop GPU": "RTX-3500-Ada-Laptop",
    "NVIDIA RTX PRO 2000 Blackwell Generation Laptop GPU": "RTX-PRO-2000-Laptop",
    "RTX 4060 Mobile": "RTX-4060-Laptop",
    "NVIDIA GeForce RTX 2080 Super with Max-Q Design": "RTX-2080-SUPER",
    "Quadro RTX 5000 with Max-Q Design": "RTX-5000",
    # Virtual GPUs
    "GRID T4-16Q": "T4",
    "GRID T4-1B4": "T4",
    "GRID P40-24Q": "P40",
    "GRID M60-8Q": "M60",
    "GRID V100DX-32C": "V100-32GB",
    "GRID V100D-8Q": "V100-PCIe-32GB",
    "GRID RTX6000-24Q": "RTX-6000",
    "GRID RTX6000P-6Q": "RTX-6000",
    "GRID A100X-40C": "A100-40GB",
    "GRID A100DX-80C": "A100-80GB",
    "GRID A100DX-1-10C": "A100-80GB",
    "GRID A100-1-5CME": "A100-40GB-PCIe",
    "GRID-A100D-10C": "A100-80GB-PCIe",
    "NVIDIA A40-48Q": "A40",
    "NVIDIA-A10-24Q": "A10",
    "NVIDIA-A16-4C-SHARED": "A16",
    "NVIDIA H100XM-80C": "H100",
    "NVIDIA H100-1-10C": "H100-PCIe",
    "NVIDIA L40S-24Q": "L40S",
    "NVIDIA L4-24C": "L4",
    "NVIDIA RTXA6000-48Q": "RTX-A6000",
    "NVIDIA RTX6000-Ada-48Q": "RTX-6000-Ada",
    "NVIDIA RTX Pro 6000 Blackwell DC-96Q": "RTX-PRO-6000",
    "NVIDIA RTX Pro 6000 Blackwell DC-4-96Q": "RTX-PRO-6000",
    "NVIDIA GeForce RTX 3090": "RTX-3090",
    "GeForce RTX 3090": "RTX-3090",
    "NVIDIA GeForce RTX 4070 Ti": "RTX-4070-Ti",
    "NVIDIA GeForce RTX 5090": "RTX-5090",
    "Quadro RTX 6000": "RTX-6000",
    "AMD Instinct MI300X": "MI300X",
    "AMD Instinct MI308X": "MI308X",
    "AMD Instinct MI325X": "MI325X",
    "AMD Instinct MI350X": "MI350X",
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
    "R100": "R100",
    "R200": "R200",
    "Rubin": "R200",
    "Jetson AGX Thor": "Jetson-AGX-Thor",
    "AGX Thor": "Jetson-AGX-Thor",
    "T5000": "Jetson-AGX-Thor",
    "Jetson T4000": "Jetson-T4000",
    "AGX Orin": "Jetson-AGX-Orin",
    "Jetson AGX Orin 64GB": "Jetson-AGX-Orin",
    "Orin Nano": "Jetson-Orin-Nano",
    "jetson-orin-nano": "Jetson-Orin-Nano",
    "Orin NX": "Jetson-Orin-NX",
    "NVIDIA Jetson Orin Nano Super Developer Kit": "Jetson-Orin-Nano",
    "RTX PRO 6000": "RTX-PRO-6000",
    "RTX 6000 Ada": "RTX-6000-Ada",
    "RTX 4070 Ti Super": "RTX-4070-Ti-SUPER",
    "4090D": "RTX-4090-D",
    "5090 D": "RTX-5090-D",
    "RTX 4500 Ada": "RTX-4500-Ada",
    "A1000": "RTX-A1000",
    "A100X": "A100X",
    "4090 Laptop": "RTX-4090-Laptop",
    # Ours
    "Simulated H100": "H100",
    "Simulated-A100-80GB": "A100-80GB",
    "simulated NVIDIA L40S": "L40S",
}


#: Product → MiB and compute capability, as nvidia-smi and CUDA said on real boards. Sources: the captures of
#: NVIDIA/k8s-test-infra (tests/e2e/go/assertions/nvidiasmi/testdata/hardware), modal-labs/modal-client#2797.
MEASURED = {
    "Tesla T4": (15360, (7, 5)),
    "NVIDIA A10": (23028, (8, 6)),
    "NVIDIA A100-SXM4-40GB": (40960, (8, 0)),
    "NVIDIA A100-SXM4-80GB": (81920, (8, 0)),
    "NVIDIA L4": (23034, (8, 9)),
    "NVIDIA L40S": (46068, (8, 9)),
    "NVIDIA H100 80GB HBM3": (81559, (9, 0)),
    "NVIDIA B200": (183359, (10, 0)),
    "NVIDIA GB200": (189471, (10, 0)),
    "NVIDIA GB300": (284208, (10, 3)),
    "NVIDIA VR200": (286524, (10, 7)),
    "NVIDIA RTX 6000D": (85651, (12, 0)),
}


@pytest.mark.parametrize(("product", "measured"), MEASURED.items())
def test_memory_and_compute_capability_are_those_of_real_boards(
    product: str, measured: tuple[int, tuple[int, int]]
) -> None:
    model = find_model(product)
    assert model is not None
    assert (model.memory_mib, model.compute_capability) == measured


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
    assert [m.name for m in find_models("RTX PRO 6000")] == [
        "RTX-PRO-6000", "RTX-PRO-6000-WS", "RTX-PRO-6000-Max-Q"
    ]  # fmt: skip
    assert "Jetson-Orin-Nano" in {m.name for m in find_models("Orin")}


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
    assert 4000 <= model.memory_mib <= 400_000
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
