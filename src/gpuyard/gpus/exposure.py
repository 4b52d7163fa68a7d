"""Whether images can choose GPUs on a node by themselves; and how the node's annotation says it (pure).

NVIDIA's runtime gives a container the GPUs that NVIDIA_VISIBLE_DEVICES of its image names; CUDA images name
all. No admission policy sees what is in an image, so the node has to be closed: the agent looks where it can,
its labeller writes what it found, and `doctor` reads it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuyard.kube.objects import annotations_of
from gpuyard.kube.wellknown import ANNOTATION_GPU_EXPOSURE

_TEXTS = {True: "yes", False: "no"}
_RUNTIME, _VARIABLE = "default-runtime", "variable"


@dataclass(frozen=True)
class Exposure:
    """What a node does with images that name GPUs; None for what isn't known.

    Attributes:
        default_runtime: whether NVIDIA's runtime runs pods that name no RuntimeClass.
        variable: whether it takes NVIDIA_VISIBLE_DEVICES of containers without privileges.
    """

    default_runtime: bool | None = None
    variable: bool | None = None

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Exposure:
        """As the node's annotation says it."""
        words = annotations_of(node).get(ANNOTATION_GPU_EXPOSURE, "").split(",")
        known = dict(word.partition("=")[::2] for word in words)
        values = {text: value for value, text in _TEXTS.items()}
        return cls(values.get(known.get(_RUNTIME, "")), values.get(known.get(_VARIABLE, "")))

    def or_else(self, other: Exposure) -> Exposure:
        """This, and what the other knows besides."""
        return Exposure(
            other.default_runtime if self.default_runtime is None else self.default_runtime,
            other.variable if self.variable is None else self.variable,
        )

    def __str__(self) -> str:
        """`default-runtime=no,variable=yes`: the annotation's value."""
        pairs = ((_RUNTIME, self.default_runtime), (_VARIABLE, self.variable))
        return ",".join(f"{name}={_TEXTS[value]}" for name, value in pairs if value is not None)
