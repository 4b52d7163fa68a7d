"""What a user writes for GPUs: `2`, `H100:2`, `1g.10gb` for a part of one (MIG), `shared` for a share."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuyard.gpus.catalogue import GpuModel

from gpuyard.gpus.resources import GPU_RESOURCE, SHARED_SUFFIX, mig_resource, model_resource, whole_gpus
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
_ANY_SHARE = frozenset({"shared", "gpu.shared", GPU_RESOURCE + SHARED_SUFFIX})
#: As GPU feature discovery ends the product of shared GPUs.
_LABEL_OF_SHARED = r"(?ia)(.+)-shared"


@dataclass(frozen=True)
class GpuRequest:
    """How many GPUs, and of which models; no models means any.

    Attributes:
        count: GPUs, or parts of them, 0 for none.
        models: models that satisfy the request, the most usual first ("A100" is 40 and 80 GB).
        profile: of MIG, for parts: `1g.10gb`; empty for GPUs as they are offered.
        vendor: whose GPUs, see `kube.wellknown`: the models', else NVIDIA's until the nodes were asked.
        is_share: shares of such GPUs, or parts, that several containers have (time-slicing, MPS).
        by_model: nodes offer them by their model's name (`nvidia.com/h100`): the first of `models`.
    """

    count: int = 0
    models: tuple[GpuModel, ...] = ()
    profile: str = ""
    vendor: str = NVIDIA
    is_share: bool = False
    by_model: bool = False

    @property
    def of_any_vendor(self) -> bool:
        """Whether what there is decides whose they are."""
        return bool(self.count and not self.models and not self.profile)

    @property
    def resource(self) -> str:
        """What a pod asks for."""
        if self.profile:
            name = mig_resource(self.profile)
        elif self.by_model:
            name = model_resource(self.vendor, self.models[0].name)
        else:
            name = whole_gpus(self.vendor)
        return name + SHARED_SUFFIX if self.is_share else name


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
    if re.fullmatch(_COUNT, name) and re.match(r"(?ia)[a-z]", amount):
        raise ValueError(f"{text!r} is not a GPU request; write {amount}:{name}")
    if not name or not re.fullmatch(_COUNT, amount) or re.fullmatch(_NUMBER_LIKE, name):
        raise ValueError(f"{text!r} is not a GPU request; {FORM}")
    count = _count(amount, text)
    if name.lower() in _ANY_SHARE:
        request = GpuRequest(count, is_share=True)
    elif label := re.fullmatch(_LABEL_OF_SHARED, name):
        raise ValueError(
            f"{text!r} is not a GPU request; write {label[1]}{SHARED_SUFFIX}:{amount} for shares"
        )
    else:
        whole = re.sub(rf"(?i){re.escape(SHARED_SUFFIX)}$", "", name)
        request = replace(_of_kind(whole, text), count=count, is_share=whole != name)
    return request if count else GpuRequest()


def _of_kind(name: str, text: str) -> GpuRequest:
    """Parts of a profile, or GPUs of a model."""
    if profile := re.fullmatch(_PROFILE, name):
        # NVIDIA's resources have a dot where its profiles have a plus.
        size, dot, extra = re.split(r"(?<=gb)([+.]|$)", profile[1].lower(), maxsplit=1)
        return GpuRequest(profile=size + ("+" if dot else "") + extra)
    if "mig-" in name.lower() or re.fullmatch(r"(?ia)[0-9]c\.[0-9]g\..*", name):
        raise ValueError(f"{text!r} is no part of a GPU that nodes offer; write a profile such as 1g.10gb:2")
    # Runs without GPUs are submitted without the catalogue.
    from gpuyard.gpus.catalogue import find_models, nearest

    models = find_models(name)
    if not models:
        hint = nearest(name)
        guess = f"; did you mean {hint}?" if hint else ""
        raise ValueError(f"{name!r} is no GPU model that gpuyard knows{guess} ({FORM})")
    return GpuRequest(models=models, vendor=models[0].vendor)


def _count(digits: str, text: str) -> int:
    count = int(digits)
    if count > _MOST:
        raise ValueError(f"{text!r} asks for more than {_MOST} GPUs; {FORM}")
    return count
