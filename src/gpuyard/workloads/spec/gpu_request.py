"""What a user writes for GPUs: `2`, `H100`, `H100:2`, `1g.10gb` for a part of one (MIG)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuyard.gpus.catalogue import GpuModel

from gpuyard.gpus.resources import mig_resource, whole_gpus
from gpuyard.kube.wellknown import NVIDIA

FORM = "write a number, a model, or both: 2, H100, H100:2"
#: More than any machine or cluster has; keeps typing errors out of the arithmetic.
_MOST = 100_000
_COUNT = r"(?a)[0-9]{1,9}"
#: Other tools' spellings: `2xH100`, `2 x H100`.
_TIMES = r"(?ia)([0-9]{1,6})\s*[x*×]\s*([A-Za-z][\w -]*)"
#: Docker's ways to say which.
_WHICH = r"(?i)device=.*|[0-9]+(?:,[0-9]+)+|GPU-.*"
#: `1g.10gb`, and as NVIDIA's resource: `nvidia.com/mig-1g.10gb.me`.
_PROFILE = r"(?ia)(?:nvidia\.com/)?(?:mig-)?([1-9]g\.[0-9]{1,3}gb(?:[+.][a-z.]+)?)"
#: What people write where a count belongs: `H100:2.5`, `:-1`.
_NUMBER_LIKE = r"(?a)[-+]?[0-9.,]+"


@dataclass(frozen=True)
class GpuRequest:
    """How many GPUs, and of which models; no models means any.

    Attributes:
        count: GPUs, or parts of them, 0 for none.
        models: models that satisfy the request, the most usual first ("A100" is 40 and 80 GB).
        profile: of MIG, for parts: `1g.10gb`; empty for GPUs as they are offered.
        vendor: whose GPUs, see `kube.wellknown`: the models', else NVIDIA's until the nodes were asked.
    """

    count: int = 0
    models: tuple[GpuModel, ...] = ()
    profile: str = ""
    vendor: str = NVIDIA

    @property
    def of_any_vendor(self) -> bool:
        """Whether what there is decides whose they are."""
        return bool(self.count and not self.models and not self.profile)

    @property
    def resource(self) -> str:
        """What a pod asks for."""
        return mig_resource(self.profile) if self.profile else whole_gpus(self.vendor)


def parse_gpus(text: str) -> GpuRequest:
    """Reads a GPU string.

    Raises:
        ValueError: not of the form, or a model that the catalogue doesn't know.
    """
    text = text.strip()
    if re.fullmatch(_COUNT, text):
        return GpuRequest(_count(text, text))
    if times := re.fullmatch(_TIMES, text):
        raise ValueError(f"{text!r} is not a GPU request; write {times[2]}:{times[1]}")
    if text.lower() == "all":
        raise ValueError("'all' is not a GPU request; write how many: `gpuyard nodes` shows what is there")
    if re.fullmatch(_WHICH, text):
        raise ValueError(f"{text!r} names GPUs, and which ones is decided for you; write how many, such as 1")
    name, colon, amount = text.rpartition(":")
    if not colon:
        name, amount = text, "1"
    name, amount = name.strip(), amount.strip()
    if not name or not re.fullmatch(_COUNT, amount) or re.fullmatch(_NUMBER_LIKE, name):
        raise ValueError(f"{text!r} is not a GPU request; {FORM}")
    count = _count(amount, text)
    if profile := re.fullmatch(_PROFILE, name):
        # NVIDIA's resources have a dot where its profiles have a plus.
        size, dot, extra = re.split(r"(?<=gb)([+.]|$)", profile[1].lower(), maxsplit=1)
        return GpuRequest(count, profile=size + ("+" if dot else "") + extra if count else "")
    if "mig-" in name.lower() or re.fullmatch(r"(?ia)[0-9]c\.[0-9]g\..*", name):
        raise ValueError(f"{text!r} is no part of a GPU that nodes offer; write a profile such as 1g.10gb:2")
    # Runs without GPUs are submitted without the catalogue.
    from gpuyard.gpus.catalogue import find_models, nearest

    models = find_models(name)
    if not models:
        hint = nearest(name)
        guess = f"; did you mean {hint}?" if hint else ""
        raise ValueError(f"{name!r} is no GPU model that gpuyard knows{guess} ({FORM})")
    return GpuRequest(count, models, vendor=models[0].vendor) if count else GpuRequest()


def _count(digits: str, text: str) -> int:
    count = int(digits)
    if count > _MOST:
        raise ValueError(f"{text!r} asks for more than {_MOST} GPUs; {FORM}")
    return count
