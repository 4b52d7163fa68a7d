"""The GPU models that gpuyard knows by name, and every spelling that leads to one.

One board has many names: NVML says "NVIDIA H100 80GB HBM3", GPU feature discovery's label
"NVIDIA-H100-80GB-HBM3", a cloud "nvidia-h100-80gb", and people "H100". All of them lead to one `GpuModel`
whose `name` is what gpuyard writes on nodes (label gpuyard.io/gpu-model) and asks for in node affinity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from gpuyard.gpus.models import ROWS

#: Words that say who made or sells the board, never which one it is.
_NOISE = frozenset({"nvidia", "amd", "tesla", "geforce", "instinct", "simulated"})
#: What GPU feature discovery appends to the product of a shared or partitioned GPU.
_DISCOVERY_SUFFIX = r"(?:-shared|-mig-(?:invalid|\d.*))+$"


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
        form: "SXM5", "PCIe", "OAM", "superchip" or "SoC".
    """

    name: str
    product: str
    spellings: tuple[str, ...]
    memory_mib: int
    compute_capability: tuple[int, int] | None
    family: str
    nvlink: int | None
    form: str


MODELS: tuple[GpuModel, ...] = tuple(
    GpuModel(name, product, spellings, memory_mib, capability, family, nvlink, form)
    for name, product, memory_mib, capability, family, nvlink, form, spellings in ROWS
)


def find_model(text: str) -> GpuModel | None:
    """The model that `text` names; the most usual one where it could be several ("A100")."""
    models = find_models(text)
    return models[0] if models else None


def find_models(text: str) -> tuple[GpuModel, ...]:
    """Every model that `text` can mean, the most usual first; empty when it is unknown.

    "H100" is any H100, "H100-PCIe" only that one.
    """
    return _index().get(_key(text), ())


def in_words(names: Sequence[str]) -> str:
    """Names of models as a user would say them: all that "A100" can mean are `any A100`."""
    word = names[0].partition("-")[0] if names else ""
    if len(names) > 1 and {model.name for model in find_models(word)} == set(names):
        return f"any {word}"
    return " or ".join(names)


def nearest(text: str) -> str | None:
    """The name of the model whose spelling looks most like `text`, for error messages."""
    index = _index()
    import difflib

    close = difflib.get_close_matches(_key(text), index, n=1, cutoff=0.6)
    return index[close[0]][0].name if close else None


def _key(text: str) -> str:
    """Case, separators, vendor words and discovery's suffixes don't count: `NVIDIA-L40S` → `l40s`."""
    words = re.sub(_DISCOVERY_SUFFIX, "", "-".join(re.split(r"[\s_/-]+", text.strip().lower()))).split("-")
    return "".join(word for word in words if word not in _NOISE)


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
