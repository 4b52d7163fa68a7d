"""Images as they are in the wild, by the environment that their configs have."""

from __future__ import annotations

from gpuyard.compatibility.need import Traits
from gpuyard.images.contents.torch import Installed, Torch

_BRANDS_BEFORE_12_8 = "tesla unknown nvidia nvidiartx geforce geforcertx quadro quadrortx titan titanrtx"
_BRANDS_FROM_12_6 = "unknown grid tesla nvidia quadro quadrortx nvidiartx vapps vpc vcs vws cloudgaming"


def require(cuda: str, branches: tuple[int, ...], brands: str) -> str:
    """As NVIDIA writes it: the CUDA, or one of the branches that its compat package works on."""
    rows = [f"brand={brand},driver>={b},driver<{b + 1}" for b in branches for brand in brands.split()]
    return " ".join([f"cuda>={cuda}", *rows])


# As the configs of these images have it; of the others it isn't known, and the toolkit goes by CUDA_VERSION.
REQUIRE = {
    "12.4": require("12.4", (470, 525, 535), _BRANDS_BEFORE_12_8),
    "12.6": require("12.6", (470, 535, 550), _BRANDS_FROM_12_6),
    "12.8": require("12.8", (470, 535, 550, 560, 565), _BRANDS_FROM_12_6),
    "12.9": require("12.9", (535, 550, 560, 565, 570), _BRANDS_FROM_12_6),
    "13.0": require("13.0", (535, 550, 565, 570, 575), _BRANDS_FROM_12_6),
    "13.1": require("13.1", (535, 550, 570, 575, 580), _BRANDS_FROM_12_6),
    "13.3": require("13.3", (535, 550, 560, 565, 570, 580), _BRANDS_FROM_12_6),
}


def nvidia_cuda(version: str, machine: str = "amd64", **env: str) -> Traits:
    """nvidia/cuda:VERSION-base-ubuntu22.04, with its compat package, which configs up to CUDA 12.4 name."""
    minor = ".".join(version.split(".")[:2])
    old = tuple(map(int, minor.split("."))) <= (12, 4)
    declared = {
        "NVARCH": "x86_64" if machine == "amd64" else "sbsa",
        "CUDA_VERSION": version,
        "NV_CUDA_CUDART_VERSION": f"{minor}.99-1",
        **({"NV_CUDA_COMPAT_PACKAGE": f"cuda-compat-{minor.replace('.', '-')}"} if old else {}),
        **({"NVIDIA_REQUIRE_CUDA": REQUIRE[minor]} if minor in REQUIRE else {}),
        **env,
    }
    return Traits(f"nvidia/cuda:{version}-base-ubuntu22.04", machine, declared)


def ngc(tag: str, **env: str) -> Traits:
    """nvcr.io/nvidia/pytorch:TAG-py3, by its tag alone unless more is given."""
    return Traits(f"nvcr.io/nvidia/pytorch:{tag}-py3", "amd64", env)


def pytorch(torch: str, cuda: str) -> Traits:
    """pytorch/pytorch with the environment that its base leaves in it."""
    return Traits(f"pytorch/pytorch:{torch}-cuda{cuda}-cudnn9-runtime", "amd64", {"PYTORCH_VERSION": torch})


def pip(torch: str, cudart: str = "", machine: str = "amd64", base: Traits | None = None) -> Traits:
    """torch by pip, on python:3.12-slim or another base; `cudart` is the runtime that the lock pins."""
    suffix = "" if cudart.startswith("13") else f"-cu{cudart.split('.')[0]}"
    pins = {f"nvidia-cuda-runtime{suffix}": cudart} if cudart else {}
    env = base.env if base else {"PYTHON_VERSION": "3.12.4"}
    return Traits("registry/team/train:v1", machine, env, {}, Installed.seen({"torch": torch, **pins}))


def conda(torch: str, cuda: str) -> Traits:
    """pytorch/pytorch, or a team's own, without its name and environment: its layers were read."""
    folder = "/opt/conda/lib/python3.11/site-packages"
    return Traits("registry/base:1", "amd64", installed=Installed(Torch(torch, folder, cuda)))


def debian(torch: str = "1.13.0a0+gitunknown", cuda: str = "none") -> Traits:
    """Debian with python3-torch, read."""
    torch_there = Torch(torch, "/usr/lib/python3/dist-packages", cuda)
    return Traits("registry/base:2", "amd64", installed=Installed(torch_there))


def ngc_renamed(torch: str, cuda: str, **env: str) -> Traits:
    """NVIDIA's container under another name: nothing but its torch tells which."""
    folder = "/usr/local/lib/python3.10/dist-packages"
    return Traits("registry/base:3", "amd64", env, installed=Installed(Torch(torch, folder, cuda)))
