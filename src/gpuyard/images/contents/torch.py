"""Which torch a program finds in an image, and which CUDA runtime was installed beside it as a wheel.

What shadows what is the order in which Python looks:

1. wheels that a build put into the image's environment,
2. the base's packages: its own environment, then /usr/local, then the distribution's
   (`images/contents/reader.py` picks among them, since it knows where each lies).

A build writes what it found into labels, so that an image's config alone tells it later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LABEL_TORCH = "io.gpuyard.torch"
LABEL_TORCH_CUDA = "io.gpuyard.torch-cuda"
LABEL_TORCH_FOLDER = "io.gpuyard.torch-folder"
LABEL_CUDA_RUNTIME = "io.gpuyard.cuda-runtime"
LABELS = frozenset({LABEL_TORCH, LABEL_TORCH_CUDA, LABEL_TORCH_FOLDER, LABEL_CUDA_RUNTIME})

#: In the place of a CUDA version: built without.
NO_CUDA = "none"

_RUNTIME = re.compile(r"nvidia-cuda-runtime(?:-cu\d+)?|cuda-toolkit")
#: `cuda: Optional[str] = '12.4'` or `cuda = None`.
_CUDA_LINE = re.compile(r"^cuda\b[^=\n]*=\s*(?:None|['\"]([\d.]*)['\"])", re.MULTILINE)
# 24.06 is written nv24.06 by torch itself and nv24.6 by its metadata.
_CONTAINER = re.compile(r"\+.*\bnv(\d{2})\.(\d{1,2})\b")


@dataclass(frozen=True)
class Torch:
    """A torch that is installed.

    Attributes:
        version: as its metadata has it.
        folder: what it lies in, such as /usr/lib/python3/dist-packages; empty: a wheel of the build's.
        cuda: what it was built with, as its torch/version.py says: `12.4`, or NO_CUDA; empty: not known.
    """

    version: str
    folder: str = ""
    cuda: str = ""

    @property
    def local(self) -> str:
        """The local version: `cu124`, `cpu`; empty without one."""
        return self.version.partition("+")[2]

    @property
    def without_cuda(self) -> bool:
        """Whether it is known to be built for the CPU alone."""
        return self.cuda == NO_CUDA or (not self.cuda and self.local.startswith("cpu"))

    @property
    def container(self) -> str:
        """Month of NVIDIA's container that it was made for (`24.06`), by its version; else empty."""
        match = _CONTAINER.search(self.version)
        return f"{match[1]}.{int(match[2]):02}" if match else ""


@dataclass(frozen=True)
class Installed:
    """What an image's Python packages tell of CUDA.

    Attributes:
        torch: the one that `import torch` finds; None: none that is known of.
        runtime: version of the CUDA runtime that came as a wheel, such as 12.4.127; empty without one.
    """

    torch: Torch | None = None
    runtime: str = ""

    @classmethod
    def seen(
        cls, wheels: Mapping[str, str], base: Mapping[str, str] | None = None, torch: Torch | None = None
    ) -> Installed:
        """What a program sees of a build's wheels and a base.

        Args:
            wheels: that the build installs: version by name.
            base: packages of the base.
            torch: the base's.
        """
        own = _normal(wheels)
        if "torch" in own:
            torch = Torch(own["torch"])
        # A runtime that the base has isn't installed again, whoever needs it.
        return cls(torch, _runtime(own) or _runtime(_normal(base or {})))

    @classmethod
    def of_labels(cls, labels: Mapping[str, str]) -> Installed:
        """What a build found, by the labels that it wrote."""
        version = labels.get(LABEL_TORCH, "")
        torch = Torch(version, labels.get(LABEL_TORCH_FOLDER, ""), labels.get(LABEL_TORCH_CUDA, ""))
        return cls(torch if version else None, labels.get(LABEL_CUDA_RUNTIME, ""))

    def labels(self) -> dict[str, str]:
        """The labels to write; those of LABELS that aren't among them are not to be there."""
        torch = self.torch or Torch("")
        found = {
            LABEL_TORCH: torch.version,
            LABEL_TORCH_CUDA: torch.cuda,
            LABEL_TORCH_FOLDER: torch.folder,
            LABEL_CUDA_RUNTIME: self.runtime,
        }
        return {name: value for name, value in found.items() if value}


def built_cuda(version_py: str) -> str:
    """What torch/version.py says of CUDA: `12.4`, NO_CUDA, or empty where it says nothing."""
    match = _CUDA_LINE.search(version_py)
    return (match[1] or NO_CUDA) if match else ""


def _runtime(packages: Mapping[str, str]) -> str:
    """The newest runtime, where several are installed."""
    found = [version for name, version in packages.items() if _RUNTIME.fullmatch(name)]
    return max(found, key=_numbers, default="")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _normal(packages: Mapping[str, str]) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in packages.items()}
