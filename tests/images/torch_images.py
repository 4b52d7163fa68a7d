"""The images of examples 03 and 04, by the names of the manifests that users bring, on Debian's PyTorch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
_MANIFESTS = Path(__file__).parents[1] / "cluster" / "manifests"
#: Runs `gpuyard` with these words, which has to succeed.
Run = Callable[..., object]


@dataclass(frozen=True)
class TorchImages:
    """Where they are.

    Attributes:
        registry: HOST:PORT.
    """

    registry: str

    @property
    def base(self) -> str:
        """Debian with PyTorch and the environment that its torchrun needs."""
        return f"{self.registry}/debian-torch:12"

    @property
    def train(self) -> str:
        """Example 03."""
        return f"{self.registry}/pytorch-train:v1.2"

    @property
    def serve(self) -> str:
        """Example 04, without weights: it trains before it is ready."""
        return f"{self.registry}/your-diffusion-app:latest"

    def manifest(self, name: str) -> str:
        """A manifest as its user brings it, but for the registry."""
        return (_MANIFESTS / name).read_text().replace("your-registry", self.registry)


def build_torch_images(run: Run, tar: Path, folder: Path, registry: str) -> TorchImages:
    """Builds them as their READMEs say.

    Args:
        run: calls gpuyard.
        tar: Debian's root file system with PyTorch.
        folder: to put copies of the examples in.
        registry: HOST:PORT to push to.
    """
    images = TorchImages(registry)
    torchrun = ("--env", "PET_REDIRECTS=1", "--env", "PET_TEE=1")
    run("image", "import", str(tar), "-t", images.base, "--compression", "zstd", *torchrun)
    for example, image in (("03-ddp", images.train), ("04-serve", images.serve)):
        # A build leaves its lock beside the code.
        copied = shutil.copytree(EXAMPLES / example, folder / example, ignore=_made_by_runs)
        run("build", "-f", str(copied / "gpuyard.yaml"), "--base", images.base, "-t", image)
    return images


def _made_by_runs(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("weights.pt", "gpuyard.lock", "__pycache__")]
