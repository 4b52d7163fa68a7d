"""Combinations of image, GPU and driver of which somebody published what became of them.

Each has its source. Where a report doesn't say one of the three, what stands here instead is in its `note`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuyard.compatibility.need import Traits
from gpuyard.compatibility.offer import Injection
from gpuyard.compatibility.verdict import Fit, Rule
from tests.unit.compatibility.images import ngc, nvidia_cuda, pip

_GITHUB = "https://github.com/"
_NVIDIA = "https://docs.nvidia.com/"
_TRITON = _NVIDIA + "deeplearning/triton-inference-server/release-notes/"
_FITS, _NOTES, _FAILS, _UNKNOWN = Fit.FITS, Fit.NOTES, Fit.FAILS, Fit.UNKNOWN
_CDI, _LEGACY = Injection.CDI, Injection.LEGACY


@dataclass(frozen=True)
class Report:
    """One combination, what the verdict is to be, the rule that decides, and who says so."""

    image: Traits
    gpu: str
    driver: str
    outcome: Fit
    rule: Rule | None
    source: str
    injection: Injection = _CDI
    note: str = ""


def _arm(torch: str) -> Traits:
    return pip(torch, machine="arm64")


_FORWARD = [
    # The image's driver library on GPUs that refuse it.
    Report(nvidia_cuda("13.1.1"), "RTX 5090", "580.126.09", _FAILS, Rule.FORWARD,
           _GITHUB + "huggingface/candle/issues/3358"),
    Report(nvidia_cuda("13.1.1"), "RTX 3090", "580.126.09", _FAILS, Rule.FORWARD,
           _GITHUB + "noonghunna/club-3090/pull/304"),
    Report(nvidia_cuda("13.2.0"), "RTX 3090", "580.159.03", _FAILS, Rule.FORWARD,
           _GITHUB + "noonghunna/club-3090/issues/633"),
    Report(nvidia_cuda("12.6.2"), "RTX 3090", "580.159.03", _FITS, None,
           _GITHUB + "noonghunna/club-3090/issues/633"),
    Report(nvidia_cuda("12.9.1"), "RTX 3060", "570.211.01", _FAILS, Rule.FORWARD,
           _GITHUB + "QuipNetwork/quip-miner/issues/24"),
    Report(nvidia_cuda("12.9.0"), "RTX 3090", "570.133.20", _FAILS, Rule.FORWARD,
           _GITHUB + "ggml-org/llama.cpp/issues/13609", note="the driver isn't told, but is older than 575"),
    Report(nvidia_cuda("12.9.0"), "RTX 2060", "570.133.20", _FAILS, Rule.FORWARD,
           _GITHUB + "ggml-org/llama.cpp/issues/13609", note="the driver isn't told, but is older than 575"),
    Report(nvidia_cuda("12.9.0"), "V100", "570.133.20", _NOTES, Rule.FORWARD,
           _GITHUB + "ggml-org/llama.cpp/issues/13609", note="the driver isn't told, but is older than 575"),
    Report(nvidia_cuda("12.9.1"), "RTX 4090", "570.86.15", _FAILS, Rule.FORWARD,
           _GITHUB + "ggml-org/llama.cpp/pull/21438", note="a rented GPU whose driver ends at CUDA 12.8"),
    Report(nvidia_cuda("12.8.1"), "RTX 4090", "570.124.06", _FITS, None,
           _GITHUB + "ggml-org/llama.cpp/pull/21438", note="a rented GPU whose driver ends at CUDA 12.8"),
    Report(nvidia_cuda("12.4.1"), "RTX 4090", "535.171.04", _FAILS, Rule.FORWARD,
           _GITHUB + "vllm-project/vllm/issues/5283"),
    Report(nvidia_cuda("12.4.1"), "RTX 4090", "535.104.05", _FAILS, Rule.FORWARD,
           _GITHUB + "LMCache/demo/issues/6", note="CUDA 12.2 on the host"),
    Report(pip("2.5.1", "12.4.127", base=nvidia_cuda("12.4.1")), "RTX 4090", "535.129.03",
           _FAILS, Rule.FORWARD, _GITHUB + "gpustack/gpustack/issues/1540", note="its 1254 names the driver"),
    Report(pip("2.5.1", "12.4.127", base=nvidia_cuda("12.4.1")), "L20", "535.129.03", _NOTES, Rule.FORWARD,
           _GITHUB + "gpustack/gpustack/issues/1540", note="its 1254 names the driver"),
    Report(nvidia_cuda("12.1.1"), "RTX 3090", "525.85.12", _FAILS, Rule.FORWARD,
           _GITHUB + "AIR-DISCOVER/ICRA2024-Sim2Real-AXS/issues/5", note="CUDA 12.1 in the image"),
    Report(nvidia_cuda("12.1.1"), "RTX 3090", "535.154.05", _FITS, None,
           _GITHUB + "AIR-DISCOVER/ICRA2024-Sim2Real-AXS/issues/5", note="mended by a newer driver"),
    Report(nvidia_cuda("12.1.1"), "GTX 1050 Ti", "525.125.06", _FAILS, Rule.FORWARD,
           _GITHUB + "oobabooga/textgen/issues/4407", note="its Dockerfile is on CUDA 12.1.1"),
    Report(nvidia_cuda("12.1.1"), "RTX 2080 Ti", "470.57.02", _FAILS, Rule.DRIVER_TOO_OLD,
           _GITHUB + "SYSTRAN/faster-whisper/issues/653"),
    Report(nvidia_cuda("11.3.1"), "GTX 1650", "460.80", _FAILS, Rule.FORWARD,
           _GITHUB + "DeepVAC/TorchPod/issues/43"),
    Report(nvidia_cuda("11.3.1"), "GTX 1080 Ti", "460.80", _FAILS, Rule.FORWARD,
           _GITHUB + "NVIDIA/nvidia-docker/issues/1515"),
    Report(nvidia_cuda("11.8.0"), "A10", "470.129.06", _NOTES, Rule.FORWARD,
           _GITHUB + "NVIDIA/nvidia-container-toolkit/issues/125"),
    # The image's driver library where it works.
    Report(nvidia_cuda("13.0.2"), "A100", "575.57.08", _NOTES, Rule.FORWARD,
           _GITHUB + "vllm-project/vllm/pull/33992"),
    Report(pip("2.9.1+cu130"), "A100", "575.57.08", _FAILS, Rule.DRIVER_TOO_OLD,
           _GITHUB + "vllm-project/vllm/pull/33992", note="the same image with its library switched off"),
    Report(nvidia_cuda("13.0.3"), "H100", "535.183.01", _NOTES, Rule.FORWARD,
           _GITHUB + "dstackai/dstack/pull/4007", note="from 535 on, says its author"),
    Report(nvidia_cuda("12.9.1"), "H100", "535.183.06", _NOTES, Rule.FORWARD,
           _GITHUB + "flagos-ai/FlagGems/pull/4734", note="the driver reports CUDA 12.9 in the container"),
    Report(nvidia_cuda("13.0.2"), "Quadro RTX 6000", "580.126.09", _FITS, None,
           _GITHUB + "vllm-project/vllm/pull/33992"),
    # NVIDIA's containers.
    Report(ngc("25.08"), "T4", "535.86.10", _NOTES, Rule.FORWARD, _TRITON + "rel-25-08.html"),
    Report(ngc("25.08"), "T4", "545.23.06", _FAILS, Rule.DRIVER_TOO_OLD, _TRITON + "rel-25-08.html",
           note="the page names R545 among both, the images don't"),
    Report(ngc("25.10"), "H100", "560.35.03", _UNKNOWN, Rule.FORWARD,
           _NVIDIA + "deeplearning/frameworks/sglang-release-notes/rel-25-10.html",
           note="contested: excluded here, not so by Triton's page of 25.08"),
    Report(ngc("25.10"), "B300", "580.95.05", _FITS, None, _GITHUB + "vllm-project/vllm/issues/28707",
           note="the driver isn't told"),
    Report(ngc("25.01"), "V100", "570.86.10", _FAILS, Rule.NO_KERNEL_IMAGE, _TRITON + "rel-25-01.html"),
    Report(ngc("25.01"), "T4", "570.86.10", _FITS, None, _TRITON + "rel-25-01.html"),
    Report(ngc("23.05"), "T4", "515.65.01", _NOTES, Rule.FORWARD, _TRITON + "rel-23-05.html"),
    Report(ngc("23.05"), "T4", "520.61.05", _FAILS, Rule.DRIVER_TOO_OLD, _TRITON + "rel-23-05.html"),
    Report(ngc("26.01"), "RTX 3090", "580.95.05", _NOTES, Rule.MINOR_VERSION,
           _NVIDIA + "deploy/cuda-compatibility/minor-version-compatibility.html",
           note="its start script says: CUDA Minor Version Compatibility mode ENABLED"),
    # What NVIDIA_REQUIRE_CUDA refuses in legacy mode.
    Report(nvidia_cuda("12.8.1"), "RTX 4050 Laptop", "535.216.03", _FAILS, Rule.FORWARD,
           _GITHUB + "MauriceNino/dashdot/issues/1226", _LEGACY, note="Debian 12's driver"),
    Report(nvidia_cuda("12.8.0"), "RTX 4090", "565.77", _FAILS, Rule.FORWARD,
           _GITHUB + "NVIDIA/nvidia-container-toolkit/issues/940", _LEGACY, note="the GPU isn't told"),
    Report(nvidia_cuda("12.8.1"), "RTX 3090", "550.144.03", _FAILS, Rule.FORWARD,
           _GITHUB + "theroyallab/tabbyAPI/issues/324", _LEGACY, note="the GPU isn't told"),
]  # fmt: skip

_DRIVERS = [
    Report(pip("2.1.2", "12.1.105"), "RTX 3050 Laptop", "470.86", _FAILS, Rule.DRIVER_TOO_OLD,
           _GITHUB + "lllyasviel/Fooocus/issues/1313"),
    Report(pip("2.11.0", "13.0.96"), "A100-40GB", "575.51.03", _FAILS, Rule.DRIVER_TOO_OLD,
           _GITHUB + "lucas-maes/le-wm/issues/22", note="torch of April 2026 from PyPI"),
    Report(pip("2.9.1+cu130"), "RTX 4090", "550.54.14", _FAILS, Rule.DRIVER_TOO_OLD,
           _GITHUB + "Motphys/phys-bench/issues/14", note="found version 12040"),
    Report(pip("2.4.1+cu121"), "T4", "470.82.01", _FAILS, Rule.DRIVER_TOO_OLD,
           _GITHUB + "vllm-project/vllm/issues/11623", note="found version 11040; the GPU isn't told"),
    Report(pip("2.0.1+cu117"), "RTX 3060", "510.47.03", _NOTES, Rule.MINOR_VERSION,
           _GITHUB + "facebookresearch/dinov2/issues/20"),
    Report(nvidia_cuda("12.4.1"), "GTX 1050", "595.58.03", _FAILS, Rule.GPU_DROPPED,
           _GITHUB + "NixOS/nixos-hardware/issues/1828"),
    Report(nvidia_cuda("12.4.1"), "P100", "595.71.03", _FAILS, Rule.GPU_DROPPED,
           _GITHUB + "anomixer/proxmox-vgpu-installer/issues/29"),
    Report(nvidia_cuda("13.0.0"), "V100", "580.95.05", _FAILS, Rule.CUDA_DROPPED_GPU,
           _GITHUB + "JuliaGPU/CUDA.jl/issues/2940"),
    Report(nvidia_cuda("12.9.1"), "V100", "580.95.05", _FITS, None,
           _GITHUB + "JuliaGPU/CUDA.jl/issues/2940"),
]  # fmt: skip

_ARCHITECTURES = [
    Report(pip("2.11.0", "13.0.96"), "V100", "570.124.06", _FAILS, Rule.DRIVER_TOO_OLD,
           _GITHUB + "FlashML-org/FreeToken/pull/253"),
    Report(pip("2.10.0+cu128"), "V100", "570.124.06", _FITS, None,
           _GITHUB + "FlashML-org/FreeToken/pull/253"),
    Report(pip("2.11.0+cu128"), "V100", "570.124.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "labomics/midas/releases/tag/v0.1.19"),
    Report(pip("2.11.0+cu129"), "V100", "575.57.08", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "labomics/midas/releases/tag/v0.1.19"),
    Report(pip("2.11.0+cu126"), "V100", "570.124.06", _FITS, None,
           _GITHUB + "labomics/midas/releases/tag/v0.1.19"),
    Report(pip("2.9.1+cu130"), "V100", "580.65.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "unslothai/unsloth/pull/5876"),
    Report(pip("2.9.1+cu128"), "V100", "580.65.06", _FITS, None, _GITHUB + "unslothai/unsloth/pull/5876"),
    Report(pip("2.7.1+cu128"), "V100", "570.124.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "EutropicAI/vs-playground/pull/59"),
    Report(pip("2.8.0+cu128"), "V100", "570.124.06", _FITS, None,
           _GITHUB + "EutropicAI/vs-playground/pull/59"),
    Report(pip("2.9.1+cu130"), "P40", "580.65.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "Comfy-Org/ComfyUI/pull/16438"),
    Report(pip("2.9.1+cu126"), "P40", "580.65.06", _FITS, None, _GITHUB + "Comfy-Org/ComfyUI/pull/16438"),
    Report(pip("2.8.0+cu128"), "P100", "570.124.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "index-tts/index-tts/issues/815"),
    Report(pip("2.10.0", "12.8.90"), "P100", "580.65.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "Kaggle/kaggle-cli/issues/1151"),
    Report(pip("2.10.0", "12.8.90"), "T4", "580.65.06", _FITS, None,
           _GITHUB + "Kaggle/kaggle-cli/issues/1151"),
    Report(pip("2.7.0+cu128"), "GTX 1060", "570.124.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "invoke-ai/InvokeAI/issues/8041"),
    Report(pip("2.2.0+cu121"), "RTX 5090", "570.181", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "pytorch/pytorch/issues/160804"),
    Report(pip("2.0.1+cu118"), "RTX 5090", "570.124.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "pBFSLab/DeepPrep/issues/233"),
    Report(pip("2.7.1+cu126"), "RTX 5080", "570.124.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "Comfy-Org/ComfyUI/issues/8708"),
    Report(pip("2.7.1+cu128"), "RTX 5080", "570.124.06", _FITS, None,
           _GITHUB + "Comfy-Org/ComfyUI/issues/8708"),
    Report(pip("2.4.1+cu124", base=nvidia_cuda("12.4.1")), "RTX 5090", "570.124.06",
           _FAILS, Rule.NO_KERNEL_IMAGE, _GITHUB + "NVIDIA/personaplex/issues/23"),
    Report(pip("2.7.1", "12.6.77"), "B200", "570.124.06", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "ovg-project/kvcached/issues/111"),
    Report(pip("1.13.1+cu117"), "H100-PCIe", "525.60.13", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "PKU-YuanGroup/Open-Sora-Plan/issues/39"),
    Report(pip("2.0.1+cu118"), "H100-PCIe", "525.60.13", _FITS, None,
           _GITHUB + "rcgsheffield/sheffield_hpc/issues/1890"),
    Report(pip("2.1.2", "12.1.105"), "H100-PCIe", "530.30.02", _FITS, None,
           _GITHUB + "rcgsheffield/sheffield_hpc/issues/1890"),
    Report(_arm("2.9.1"), "GB200", "580.65.06", _FAILS, Rule.CPU_TORCH,
           _GITHUB + "pytorch/pytorch/issues/168065"),
    Report(_arm("2.9.1+cu128"), "GB200", "580.65.06", _FITS, None,
           _GITHUB + "pytorch/pytorch/issues/168065"),
    Report(_arm("2.10.0"), "GB10", "580.95.05", _FAILS, Rule.CPU_TORCH,
           _GITHUB + "hanyeol/model-compose/pull/24"),
    Report(_arm("2.10.0+cu130"), "GB10", "580.95.05", _FITS, None,
           _GITHUB + "hanyeol/model-compose/pull/24"),
    Report(_arm("2.9.1+cu129"), "GB10", "580.95.05", _FITS, None,
           _GITHUB + "pollen-robotics/microduck_rl/pull/2"),
    Report(_arm("2.9.1+cu128"), "Jetson Thor", "580.00", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "OpenRAL/openral/pull/167"),
    Report(_arm("2.9.1+cu130"), "Jetson Thor", "580.00", _NOTES, Rule.MINOR_VERSION,
           _GITHUB + "OpenRAL/openral/pull/167", note="JetPack's driver is 580.00"),
    Report(_arm("2.11.0+cu128"), "Jetson Thor", "580.00", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "cubert-hyperspectral/cuvis-ai/pull/107"),
    Report(_arm("2.14.0+cu130"), "Jetson Thor", "580.00", _NOTES, Rule.MINOR_VERSION,
           _GITHUB + "cubert-hyperspectral/cuvis-ai/pull/107", note="JetPack's driver is 580.00"),
    Report(_arm("2.6.0+cu126"), "Jetson Orin", "540.4.0", _FAILS, Rule.NO_KERNEL_IMAGE,
           _GITHUB + "pytorch/pytorch/issues/145560", note="a nightly for CUDA 12.4; JetPack 6.2's driver"),
]  # fmt: skip

REPORTS = [*_FORWARD, *_DRIVERS, *_ARCHITECTURES]
