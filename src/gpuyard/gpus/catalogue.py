"""The GPU models that gpuyard knows by name, and every spelling that leads to one.

One board has many names: NVML says "NVIDIA H100 80GB HBM3", GPU feature discovery's label
"NVIDIA-H100-80GB-HBM3", a cloud "nvidia-h100-80gb", and people "H100". All of them lead to one `GpuModel`
whose `name` is what gpuyard writes on nodes (label gpuyard.io/gpu-model) and asks for in node affinity.
A part of a board, a MIG device or a virtual GPU ("NVIDIA H100XM-20C"), leads to the board.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from gpuyard.gpus.models import ROWS
from gpuyard.kube.wellknown import AMD, NVIDIA

#: Words that say who made or sells the board, or of which kind it is, never which one it is.
_NOISE = frozenset({
    "nvidia", "amd", "radeon", "tesla", "quadro", "geforce", "grid", "instinct", "jetson", "tegra",
    "blackwell", "gpu", "generation", "edition", "simulated", "(nvgpu)", "developer", "kit",
})  # fmt: skip
#: What GPU feature discovery appends to the product of a shared or partitioned GPU, and NVIDIA to the name of
#: a laptop's that is otherwise called as the board.
_SUFFIX = r"(?:-shared|-mig-(?:invalid|\d.*)|-with-max-q-design)+$"
_LIKENESS = 0.6
#: The type of a virtual GPU: `-1-10C` is a slice of 10 GB. Its board is named in another way for some.
_VGPU_TYPE = r"-(?:\d-)?\d+(?:[ACQ]|B4?)(?:ME|GFX)?$"
#: Source: NVIDIA Virtual GPU Software User Guide, "Virtual GPU Types Reference".
_VGPU_BOARDS = {
    "P100X": "P100", "V100": "V100-PCIe", "V100X": "V100", "V100D": "V100-PCIe-32GB", "V100DX": "V100-32GB",
    "V100L": "V100-PCIe", "RTX6000P": "RTX-6000", "RTX8000P": "RTX-8000",
    "A100": "A100-40GB-PCIe", "A100X": "A100-40GB", "A100D": "A100-80GB-PCIe", "A100DX": "A100-80GB",
    "A800D": "A800-PCIe", "A800DX": "A800", "H100": "H100-PCIe", "H100L": "H100-NVL", "H100XM": "H100",
    "H100XL": "H100", "H100XS": "H100", "H800XM": "H800", "H20X": "H20-141GB", "H200X": "H200",
    "H200": "H200-NVL", "B200X": "B200", "RTX Pro 6000 Blackwell DC": "RTX-PRO-6000",
}  # fmt: skip


@dataclass(frozen=True)
class GpuModel:
    """One model of GPU.

    Attributes:
        name: gpuyard's name for it; a valid label value.
        product: the name that NVML (or AMD's driver) reports.
        spellings: further names; some, like "A100", belong to several models.
        memory_mib: memory as NVML reports it, MiB.
        compute_capability: CUDA compute capability (major, minor); None for AMD.
        family: architecture as GPU feature discovery spells it ("hopper").
        nvlink: NVLinks per GPU; None where the board has none of its own.
        form: "SXM5", "PCIe", "OAM", "laptop", "superchip" or "SoC".
    """

    name: str
    product: str
    spellings: tuple[str, ...]
    memory_mib: int
    compute_capability: tuple[int, int] | None
    family: str
    nvlink: int | None
    form: str

    @property
    def vendor(self) -> str:
        """Its maker's domain, see `kube.wellknown`."""
        return vendor_of_product(self.product)


MODELS: tuple[GpuModel, ...] = tuple(
    GpuModel(name, product, spellings, memory_mib, capability, family, nvlink, form)
    for name, product, memory_mib, capability, family, nvlink, form, spellings in ROWS
)


def vendor_of_product(product: str) -> str:
    """Whose a GPU is by its driver's name of it, which begins with a word of ours where it is simulated."""
    return AMD if "AMD " in product else NVIDIA


def find_model(text: str) -> GpuModel | None:
    """The model that `text` names; the most usual one where it could be several ("A100")."""
    models = find_models(text)
    return models[0] if models else None


def find_models(text: str) -> tuple[GpuModel, ...]:
    """Every model that `text` can mean, the most usual first; empty when it is unknown.

    "H100" is any H100, "H100-PCIe" only that one.
    """
    return _index().get(_key(text), ())


def is_virtual(product: str) -> bool:
    """Whether a product that NVML reports is a virtual GPU, a part of the board that `find_model` names."""
    return re.search(_VGPU_TYPE, _joined(product), re.IGNORECASE) is not None


def in_words(names: Sequence[str]) -> str:
    """Names of models as a user would say them: all that "A100" can mean are `any A100`."""
    word = names[0].partition("-")[0] if names else ""
    if len(names) > 1 and {model.name for model in find_models(word)} == set(names):
        return f"any {word}"
    return " or ".join(names)


def nearest(text: str) -> str | None:
    """The name of the model whose spelling looks most like `text`, for error messages."""
    from difflib import SequenceMatcher

    key, index = _key(text), _index()

    def likeness(other: str) -> tuple[float, bool]:
        # By the ratio alone `rtx4900` is as like `rtx4000` as `rtx4090`.
        return SequenceMatcher(None, other, key).ratio(), sorted(other) == sorted(key)

    likest = max(index, key=likeness)
    return index[likest][0].name if likeness(likest)[0] >= _LIKENESS else None


def _key(text: str) -> str:
    """Case, separators, vendor words and suffixes of parts don't count: `NVIDIA-L40S` → `l40s`."""
    name = re.sub(_SUFFIX, "", _joined(text))
    if (board := re.sub(_VGPU_TYPE, "", name, flags=re.IGNORECASE)) != name:
        name = _joined(_vgpu_boards().get(_plain(board), board))
    return _plain(name)


def _joined(text: str) -> str:
    return "-".join(re.split(r"[\s_/-]+", text.strip().lower()))


def _plain(name: str) -> str:
    return "".join(word for word in name.replace("mobile", "laptop").split("-") if word not in _NOISE)


@cache
def _vgpu_boards() -> Mapping[str, str]:
    return {_plain(_joined(board)): model for board, model in _VGPU_BOARDS.items()}


@cache
def _index() -> Mapping[str, tuple[GpuModel, ...]]:
    # A model's own name and product come before another's looser spelling.
    index: dict[str, tuple[GpuModel, ...]] = {}
    own = [(spelling, model) for model in MODELS for spelling in (model.name, model.product)]
    loose = [(spelling, model) for model in MODELS for spelling in model.spellings]
    for spelling, model in own + loose:
        known = index.get(_key(spelling), ())
        if model not in known:
            index[_key(spelling)] = (*known, model)
    return index
