from __future__ import annotations

from dataclasses import replace

import pytest

from gpuyard.images.cuda.facts import load_facts
from gpuyard.images.cuda.need import (
    LABEL_CUDA_RUNTIME,
    LABEL_TORCH,
    Image,
    labels_for,
    need_of,
    pins_of,
)
from tests.unit.images.cuda.images import ngc, nvidia_cuda, pip, pytorch

FACTS = load_facts()


@pytest.mark.parametrize(
    ("image", "cuda", "source"),
    [
        (nvidia_cuda("12.4.1"), "12.4.1", "env CUDA_VERSION"),
        (Image("x", env={"NV_CUDA_CUDART_VERSION": "12.4.127-1"}), "12.4", "env NV_CUDA_CUDART_VERSION"),
        (pip("2.5.1", "12.4.127"), "12.4", "nvidia-cuda-runtime-cu12==12.4.127"),
        (pip("2.11.0", "13.0.96"), "13.0", "nvidia-cuda-runtime==13.0.96"),
        (pip("2.7.1+cu128"), "12.8", "torch==2.7.1+cu128"),
        (pip("2.7.1+cu128", "12.6.77"), "12.8", "torch==2.7.1+cu128"),  # the higher of the two
        (pip("2.10.0"), "12.8", "torch==2.10.0, as PyPI has it"),
        (pip("2.5.1", "12.4.127", base=nvidia_cuda("13.0.0")), "12.4", "nvidia-cuda-runtime-cu12==12.4.127"),
        (ngc("24.06"), "12.5.0", "NVIDIA's container of 24.06"),
        (ngc("24.06", CUDA_VERSION="12.5.0.019"), "12.5.0.019", "env CUDA_VERSION"),
        (Image("mine:1", env={"NVIDIA_PYTORCH_VERSION": "25.01"}), "12.8.0", "NVIDIA's container of 25.01"),
        (pytorch("2.3.1", "12.1"), "12.1", "tag"),
        (Image("docker.io/nvidia/cuda:11.8.0-devel-ubi8"), "11.8.0", "tag"),
        (Image("x", labels={LABEL_TORCH: "2.8.0", LABEL_CUDA_RUNTIME: "12.8.90"}), "12.8",
         "nvidia-cuda-runtime==12.8.90"),
        (Image("debian:12"), None, ""),
        (Image("x", env={"CUDA_VERSION": "latest"}), None, ""),
    ],
)  # fmt: skip
def test_where_the_cuda_comes_from(image: Image, cuda: str | None, source: str) -> None:
    need = need_of(image, FACTS)
    assert (str(need.cuda) if need.cuda else None) == cuda
    assert need.cuda_source == source


def test_torch_from_pip_makes_the_base_s_cuda_not_count() -> None:
    need = need_of(pip("2.5.1", "12.4.127", base=nvidia_cuda("13.0.0")), FACTS)
    counts = {finding.source: finding.counts for finding in need.findings}
    assert counts == {"package": True, "nvidia-cuda-runtime-cu12==12.4.127": True, "env CUDA_VERSION": False}
    assert str(need.compat) == "13.0"


def test_a_package_on_top_of_nvidia_s_torch_leaves_it_alone() -> None:
    image = replace(ngc("24.06"), distributions={"numpy": "2.1.0"})
    need = need_of(image, FACTS)
    assert str(need.container) == "24.06"
    assert need.torch == "2.4.0a0+f70bd71a48"
    assert not need.pip_torch


def test_the_base_s_tag_counts_for_what_was_built_on_it() -> None:
    image = Image("registry/team/train:v1", base="nvcr.io/nvidia/pytorch:24.06-py3")
    assert str(need_of(image, FACTS).cuda) == "12.5.0"
    assert need_of(image, FACTS).reference == "registry/team/train:v1"


def test_nvidia_s_torch_says_what_it_was_built_for() -> None:
    declared = ngc("24.06", NVIDIA_PYTORCH_VERSION="24.06", TORCH_CUDA_ARCH_LIST="8.0 9.0+PTX")
    assert str(need_of(declared, FACTS).architectures) == "sm_80 sm_90 compute_90"
    # The same variable elsewhere is for extensions that somebody means to compile.
    assert need_of(nvidia_cuda("12.4.1", TORCH_CUDA_ARCH_LIST="8.0"), FACTS).architectures is None
    assert need_of(replace(declared, env={**declared.env, "TORCH_CUDA_ARCH_LIST": "?"}), FACTS).cuda


def test_a_cpu_torch_needs_no_cuda() -> None:
    need = need_of(pip("2.5.1+cpu"), FACTS)
    assert need.cpu_only
    assert need.cuda is None


def test_pins_and_labels() -> None:
    lock = """
# made by uv
torch==2.8.0 \\
    --hash=sha256:aa
nvidia_cuda-runtime-cu12==12.8.90 ; platform_system == 'Linux'
uvicorn[standard]==0.30.0
    # via torch
"""
    pins = pins_of(lock)
    assert pins == {"torch": "2.8.0", "nvidia-cuda-runtime-cu12": "12.8.90", "uvicorn": "0.30.0"}
    labels = labels_for(pins)
    assert labels == {LABEL_TORCH: "2.8.0", LABEL_CUDA_RUNTIME: "12.8.90"}
    by_label = need_of(Image("x", "amd64", labels=labels), FACTS)
    by_pins = need_of(Image("x", "amd64", distributions=pins), FACTS)
    assert (by_label.cuda, by_label.torch, by_label.architectures) == (
        by_pins.cuda, by_pins.torch, by_pins.architectures
    )  # fmt: skip
    assert labels_for({"numpy": "2.1"}) == {}
