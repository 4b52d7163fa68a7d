from __future__ import annotations

from dataclasses import replace

import pytest

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.nearest import nearest_fit
from gpuyard.compatibility.need import Traits, need_of
from gpuyard.images.contents.torch import (
    LABEL_CUDA_RUNTIME,
    LABEL_TORCH,
    LABEL_TORCH_CUDA,
    Installed,
    Torch,
)
from tests.unit.compatibility.images import conda, debian, ngc, ngc_renamed, nvidia_cuda, pip, pytorch

FACTS = load_facts()


@pytest.mark.parametrize(
    ("image", "cuda", "source"),
    [
        (nvidia_cuda("12.4.1"), "12.4.1", "env CUDA_VERSION"),
        (Traits("x", env={"NV_CUDA_CUDART_VERSION": "12.4.127-1"}), "12.4", "env NV_CUDA_CUDART_VERSION"),
        (pip("2.5.1", "12.4.127"), "12.4", "nvidia-cuda-runtime==12.4.127"),
        (pip("2.11.0", "13.0.96"), "13.0", "nvidia-cuda-runtime==13.0.96"),
        (pip("2.7.1+cu128"), "12.8", "torch==2.7.1+cu128"),
        (pip("2.7.1+cu128", "12.6.77"), "12.8", "torch==2.7.1+cu128"),  # the higher of the two
        (pip("2.10.0"), "12.8", "torch==2.10.0, as PyPI has it"),
        (pip("2.5.1", "12.4.127", base=nvidia_cuda("13.0.0")), "12.4", "nvidia-cuda-runtime==12.4.127"),
        (pip("2.10.0", machine="arm64", base=nvidia_cuda("12.8.1")), None, ""),  # PyPI's is for the CPU
        (pip("2.11.0", machine="arm64"), "13.0", "torch==2.11.0, as PyPI has it"),
        # What the base's own torch says of itself, whatever is declared around it.
        (conda("2.5.1", "12.4"), "12.4", "torch/version.py"),
        (replace(conda("2.5.1", "12.4"), env={"CUDA_VERSION": "11.8.0"}), "12.4", "torch/version.py"),
        (conda("2.5.1+cu121", ""), "12.1", "torch==2.5.1+cu121"),
        (conda("2.5.1", ""), None, ""),  # not PyPI's, as far as anybody knows
        (replace(conda("2.5.1", ""), env={"CUDA_VERSION": "12.1.1"}), "12.1.1", "env CUDA_VERSION"),
        (debian(), None, ""),
        (debian("2.6.0", "12.4"), "12.4", "torch/version.py"),
        # NVIDIA's torch has the container's CUDA, with its patch release, whatever the image is called.
        (ngc_renamed("2.4.0a0+f70bd71a48.nv24.6", "12.5"), "12.5.0", "NVIDIA's container of 24.06"),
        (ngc_renamed("2.4.0a0+f70bd71a48.nv24.06", ""), "12.5.0", "NVIDIA's container of 24.06"),
        (ngc_renamed("2.4.0a0+f70bd71a48.nv24.6", "12.5", CUDA_VERSION="12.5.0.019"), "12.5.0.019",
         "env CUDA_VERSION"),
        (ngc_renamed("2.12.0a0+0.nv26.12", "13.5"), "13.5", "torch/version.py"),  # none that is known
        # Another torch that was put into NVIDIA's container is no longer its own.
        (replace(conda("2.5.1", "12.4"), env=dict(ngc("25.10", NVIDIA_PYTORCH_VERSION="25.10").env)), "12.4",
         "torch/version.py"),
        # So is NVIDIA's torch of another month.
        (ngc_renamed("2.4.0a0+f70bd71a48.nv24.6", "12.5", NVIDIA_PYTORCH_VERSION="25.10"), "12.5",
         "torch/version.py"),
        # A runtime beside a torch is loaded by something.
        (replace(conda("2.5.1", "12.4"), installed=Installed(Torch("2.5.1", "/opt", "12.4"), "12.8.90")),
         "12.8", "nvidia-cuda-runtime==12.8.90"),
        (replace(conda("2.5.1", "12.4"), installed=Installed(Torch("2.5.1", "/opt", "12.4"), "12.1.105")),
         "12.4", "torch/version.py"),
        (Traits("jax", installed=Installed(None, "12.8.90")), "12.8", "nvidia-cuda-runtime==12.8.90"),
        (replace(nvidia_cuda("13.0.0"), installed=Installed(None, "12.8.90")), "12.8",
         "nvidia-cuda-runtime==12.8.90"),
        (replace(ngc("25.10"), installed=Installed(None, "12.8.90")), "13.0.2",
         "NVIDIA's container of 25.10"),
        (replace(ngc("24.06"), installed=Installed(None, "13.0.96")), "13.0",
         "nvidia-cuda-runtime==13.0.96"),
        (ngc("24.06"), "12.5.0", "NVIDIA's container of 24.06"),
        (ngc("24.06", CUDA_VERSION="12.5.0.019"), "12.5.0.019", "env CUDA_VERSION"),
        (Traits("mine:1", env={"NVIDIA_PYTORCH_VERSION": "25.01"}), "12.8.0", "NVIDIA's container of 25.01"),
        (pytorch("2.3.1", "12.1"), "12.1", "tag"),
        (Traits("docker.io/nvidia/cuda:11.8.0-devel-ubi8"), "11.8.0", "tag"),
        (Traits("x", labels={LABEL_TORCH: "2.8.0", LABEL_CUDA_RUNTIME: "12.8.90"}), "12.8",
         "nvidia-cuda-runtime==12.8.90"),
        (Traits("debian:12"), None, ""),
        (Traits("x", env={"CUDA_VERSION": "latest"}), None, ""),
    ],
)  # fmt: skip
def test_where_the_cuda_comes_from(image: Traits, cuda: str | None, source: str) -> None:
    need = need_of(image, FACTS)
    assert (str(need.cuda) if need.cuda else None) == cuda
    assert need.cuda_source == source


def test_torch_from_pip_makes_the_base_s_cuda_not_count() -> None:
    need = need_of(pip("2.5.1", "12.4.127", base=nvidia_cuda("13.0.0")), FACTS)
    counts = {finding.source: finding.counts for finding in need.findings}
    assert counts == {
        "a wheel of the build": True,
        "nvidia-cuda-runtime==12.4.127": True,
        "env CUDA_VERSION": False,
        "env NV_CUDA_CUDART_VERSION": False,
    }
    assert str(need.compat) == "13.0"


@pytest.mark.parametrize(
    ("image", "compat", "by_script"),
    [
        (nvidia_cuda("12.4.1"), "12.4", False),  # NV_CUDA_COMPAT_PACKAGE
        (nvidia_cuda("13.1.1"), "13.1", False),  # NV_CUDA_CUDART_VERSION, as configs from 12.6 on have it
        (Traits("nvidia/cuda:12.9.1-runtime-ubuntu24.04"), "12.9", False),
        (ngc("25.10"), "13.0.2", True),
        (Traits("own", env={"CUDA_VERSION": "12.8.1"}), None, False),
        (pytorch("2.5.1", "12.4"), None, False),
    ],
)
def test_images_that_bring_a_driver_library(image: Traits, compat: str | None, by_script: bool) -> None:
    need = need_of(image, FACTS)
    assert (str(need.compat) if need.compat else None, need.compat_by_script) == (compat, by_script)


def test_a_package_on_top_of_nvidia_s_torch_leaves_it_alone() -> None:
    image = replace(ngc("24.06"), installed=Installed.seen({"numpy": "2.1.0"}))
    need = need_of(image, FACTS)
    assert str(need.container) == "24.06"
    assert need.torch == "2.4.0a0+f70bd71a48"
    assert not need.pip_torch


def test_the_base_s_tag_counts_for_what_was_built_on_it() -> None:
    image = Traits("registry/team/train:v1", base="nvcr.io/nvidia/pytorch:24.06-py3")
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


@pytest.mark.parametrize("image", [debian(), conda("2.5.1", "none"), conda("2.5.1+cpu", "")])
def test_a_base_s_torch_without_cuda_says_where_it_lies(image: Traits) -> None:
    assert image.installed is not None and image.installed.torch is not None
    need = need_of(image, FACTS)
    assert need.cpu_only and need.base_torch and not need.pip_torch
    assert need.torch_source == f"in {image.installed.torch.folder}"
    built = need_of(replace(image, base="registry/base:2"), FACTS)
    assert built.torch_source == f"the base's, in {image.installed.torch.folder}"


def test_cuda_around_a_torch_without_it_changes_nothing() -> None:
    need = need_of(replace(debian(), env=nvidia_cuda("12.4.1").env), FACTS)
    assert (need.cpu_only, need.cuda) == (True, None)
    assert {f.source: f.counts for f in need.findings if f.what == "CUDA"} == {
        "torch/version.py": True, "env CUDA_VERSION": False, "env NV_CUDA_CUDART_VERSION": False,
    }  # fmt: skip


def test_a_wheel_comes_before_the_base_s_torch() -> None:
    base = ngc_renamed("2.4.0a0+f70bd71a48.nv24.6", "12.5").installed
    assert base is not None
    seen = Installed.seen({"torch": "2.5.1", "nvidia-cuda-runtime-cu12": "12.4.127"}, {}, base.torch)
    need = need_of(Traits("x", "amd64", installed=seen), FACTS)
    assert (need.torch, str(need.cuda), need.pip_torch, need.container) == ("2.5.1", "12.4", True, None)
    assert str(need.architectures).startswith("sm_50 ")


@pytest.mark.parametrize(
    ("image", "known"),
    [
        (pip("2.5.1", "12.4.127"), True),
        (pip("2.10.0"), True),
        (pip("2.10.0+cu130", machine="arm64", base=nvidia_cuda("13.0.0")), True),
        (pip("2.99.0", "13.0.96"), True),  # by its CUDA's list
        (pip("2.99.0", "12.5.82"), False),
        (pip("main", "12.4.127"), False),
        (conda("2.5.1+cu124", "12.4"), True),  # a wheel, by its tag
        (replace(conda("2.5.1", "12.4"), env={"PYTORCH_VERSION": "2.5.1"}), True),  # pytorch/pytorch says so
        (
            Traits("x", installed=Installed(Torch("2.5.1", "/opt", "12.4"), "12.4.127")),
            True,
        ),  # PyPI's pins
        (conda("2.5.1", "12.4"), False),  # may be anybody's
        (debian("2.6.0", "12.4"), False),
        (
            Traits(
                "x", installed=Installed(Torch("2.6.0", "/usr/lib/python3/dist-packages", "12.4"), "12.8.90")
            ),
            False,
        ),
    ],
)
def test_only_pytorch_s_own_builds_have_the_published_architectures(image: Traits, known: bool) -> None:
    assert (need_of(image, FACTS).architectures is not None) is known


@pytest.mark.parametrize(
    ("image", "torch", "source"),
    [
        (Traits("pytorch/pytorch:2.3.1-cuda12.1-cudnn9-runtime"), "2.3.1", "tag"),
        (
            Traits("mine:1", base="docker.io/pytorch/pytorch:2.3.1-cuda12.1-cudnn9-runtime"),
            "2.3.1",
            "tag",
        ),
        (Traits("mine:1", env={"PYTORCH_VERSION": "2.3.1"}), "2.3.1", "env PYTORCH_VERSION"),
        (ngc("24.06"), "2.4.0a0+f70bd71a48", "NVIDIA's container of 24.06"),
        (ngc("26.10"), "", ""),  # which torch it has isn't known
        (ngc("27.01"), "", ""),
        (pip("2.5.1"), "2.5.1", "a wheel of the build"),
    ],
)
def test_where_torch_comes_from(image: Traits, torch: str, source: str) -> None:
    need = need_of(image, FACTS)
    assert (need.torch, need.torch_source) == (torch, source)


def test_an_image_s_word_for_its_torch_is_among_the_findings() -> None:
    said = replace(conda("2.5.1", "12.4"), env={"PYTORCH_VERSION": "2.4.0"})
    found = [(f.value, f.source, f.counts) for f in need_of(said, FACTS).findings if f.what == "torch"]
    folder = "/opt/conda/lib/python3.11/site-packages"
    assert found == [("2.5.1", f"in {folder}", True), ("2.4.0", "env PYTORCH_VERSION", False)]
    # Said twice isn't told twice.
    same = replace(said, env={"PYTORCH_VERSION": "2.5.1"})
    assert [f.value for f in need_of(same, FACTS).findings if f.what == "torch"] == ["2.5.1"]


@pytest.mark.parametrize(
    ("image", "source"),
    [
        (pip("2.5.1+cpu"), "torch==2.5.1+cpu"),
        (debian(), "torch/version.py"),
        (pip("2.9.1", machine="arm64"), "torch==2.9.1, as PyPI has it for arm64"),
    ],
)
def test_how_it_is_known_that_a_torch_has_no_cuda(image: Traits, source: str) -> None:
    [finding] = [f for f in need_of(image, FACTS).findings if f.what == "CUDA"]
    assert (finding.value, finding.source, finding.counts) == ("none", source, True)


def test_a_label_tells_what_the_packages_did() -> None:
    for image in (
        pip("2.8.0", "12.8.90"),
        pip("2.5.1+cpu"),
        debian(),
        conda("2.5.1", "12.4"),
        ngc_renamed("2.4.0a0+f70bd71a48.nv24.6", "12.5"),
    ):
        assert image.installed is not None
        by_label = replace(image, labels=image.installed.labels(), installed=None)
        assert replace(need_of(by_label, FACTS), layers_read=True) == need_of(image, FACTS)


def test_versions_that_labels_say_and_nobody_can_read_are_left_out() -> None:
    labels = {LABEL_TORCH: "zzz", LABEL_TORCH_CUDA: "x", LABEL_CUDA_RUNTIME: "y"}
    need = need_of(Traits("x", labels=labels), FACTS)
    assert (need.torch, need.cuda) == ("zzz", None)
    assert nearest_fit(need, (), FACTS) is None
