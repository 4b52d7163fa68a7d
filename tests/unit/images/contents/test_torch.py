from __future__ import annotations

import pytest

from gpuyard.images.contents.torch import (
    LABEL_CUDA_RUNTIME,
    LABEL_TORCH,
    LABEL_TORCH_CUDA,
    LABEL_TORCH_FOLDER,
    Installed,
    Torch,
    built_cuda,
)

DEBIAN = Torch("1.13.0a0", "/usr/lib/python3/dist-packages", "none")


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        # Debian's, as it is in python3-torch 1.13.1+dfsg-4.
        (
            "__version__ = '1.13.0a0'\ndebug = False\ncuda = None\ngit_version = 'Unknown'\nhip = None\n",
            "none",
        ),
        (
            "from typing import Optional\n\n__version__ = '2.5.1+cu124'\ncuda: Optional[str] = '12.4'\n",
            "12.4",
        ),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2'\n", "none"),
        ('__all__ = ["cuda"]\ncuda: str | None = "13.0"\n', "13.0"),
        ("__version__ = '2.5.1'\n", ""),
        ("cuda_version = '12.4'\n", ""),
        ("", ""),
    ],
)
def test_version_py(text: str, cuda: str) -> None:
    assert built_cuda(text) == cuda


@pytest.mark.parametrize(
    ("wheels", "base", "torch", "seen"),
    [
        ({}, {}, None, Installed()),
        ({}, {"torch": "1.13.0a0"}, DEBIAN, Installed(DEBIAN)),
        ({"Torch": "2.5.1"}, {"torch": "1.13.0a0"}, DEBIAN, Installed(Torch("2.5.1"))),
        ({"numpy": "2"}, {"torch": "1.13.0a0"}, DEBIAN, Installed(DEBIAN)),
        # A runtime of the base's serves a torch that came as a wheel: uv doesn't install it again.
        ({"torch": "2.6.0"}, {"nvidia-cuda-runtime-cu12": "12.4.127"}, DEBIAN,
         Installed(Torch("2.6.0"), "12.4.127")),
        ({"torch": "2.6.0", "nvidia_cuda-runtime-cu12": "12.8.90"}, {"nvidia-cuda-runtime-cu12": "12.4.127"},
         None, Installed(Torch("2.6.0"), "12.8.90")),
        ({"nvidia-cuda-runtime-cu11": "11.8.89", "nvidia-cuda-runtime-cu12": "12.10.9"}, {}, None,
         Installed(None, "12.10.9")),
        ({"nvidia-cuda-runtime-cu12": "12.9.79", "nvidia-cuda-runtime": "13.0.96"}, {}, None,
         Installed(None, "13.0.96")),
        ({"cuda-toolkit": "13.0.2"}, {}, None, Installed(None, "13.0.2")),
        ({"nvidia-cuda-nvrtc-cu12": "12.4.127"}, {}, None, Installed()),
    ],
)  # fmt: skip
def test_what_shadows_what(
    wheels: dict[str, str], base: dict[str, str], torch: Torch | None, seen: Installed
) -> None:
    assert Installed.seen(wheels, base, torch) == seen


@pytest.mark.parametrize(
    ("version", "without", "container"),
    [
        ("2.5.1+cpu", True, ""),
        ("2.5.1+cpu.cxx11.abi", True, ""),
        ("2.5.1+cu124", False, ""),
        ("2.5.1", False, ""),
        ("2.4.0a0+f70bd71a48.nv24.06", False, "24.06"),
        ("2.4.0a0+f70bd71a48.nv24.6", False, "24.06"),
        ("2.6.0a0+df5bbc09d1.nv24.12", False, "24.12"),
        ("2.4.0a0+f70bd71a48", False, ""),
        ("2.4.0+envs24.06", False, ""),
    ],
)
def test_what_a_version_says(version: str, without: bool, container: str) -> None:
    torch = Torch(version, "/usr/local/lib/python3.10/dist-packages")
    assert (torch.without_cuda, torch.container) == (without, container)


def test_what_was_built_beats_what_it_is_called() -> None:
    assert Torch("2.5.1", "/opt", "none").without_cuda
    assert not Torch("2.5.1+cpu", "/opt", "12.4").without_cuda


@pytest.mark.parametrize(
    ("installed", "labels"),
    [
        (Installed(), {}),
        (Installed(Torch("2.8.0"), "12.8.90"), {LABEL_TORCH: "2.8.0", LABEL_CUDA_RUNTIME: "12.8.90"}),
        (Installed(DEBIAN), {LABEL_TORCH: "1.13.0a0", LABEL_TORCH_CUDA: "none",
                             LABEL_TORCH_FOLDER: "/usr/lib/python3/dist-packages"}),
        (Installed(None, "13.0.96"), {LABEL_CUDA_RUNTIME: "13.0.96"}),
    ],
)  # fmt: skip
def test_labels(installed: Installed, labels: dict[str, str]) -> None:
    assert installed.labels() == labels
    assert Installed.of_labels(labels | {"maintainer": "somebody"}) == installed
