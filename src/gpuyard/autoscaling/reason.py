"""Why a service has as many replicas as it has, in one value that people and annotations read (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gpuyard.kube.objects import annotations_of
from gpuyard.kube.wellknown import ANNOTATION_SCALING


@dataclass(frozen=True)
class ScalingReason:
    """The last decision.

    Attributes:
        wanted: what the load asks for, before any limit; None while it isn't known.
        replicas: what is asked of the Deployment.
        metric: by which of the autoscaler's metrics; empty where none decided.
        numbers: `19 in flight, target 4 each`, or why nothing is known.
        limit: what holds it back: `at most 8 replicas are allowed`; empty for nothing.
    """

    wanted: int | None
    replicas: int
    metric: str = ""
    numbers: str = ""
    limit: str = ""

    @property
    def sentence(self) -> str:
        """`wants 5: 19 in flight, target 4 each`, and what limits it."""
        if self.wanted is None:
            return f"stays at {self.replicas}: {self.numbers}"
        limit = f"; {self.replicas} for now, since {self.limit}" if self.limit else ""
        return f"wants {self.wanted}: {self.numbers}{limit}"

    def to_text(self) -> str:
        """For the annotation."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def read(cls, autoscaler: Mapping[str, Any]) -> ScalingReason | None:
        """What its annotation says; None where it says nothing that is one."""
        try:
            raw = json.loads(annotations_of(autoscaler).get(ANNOTATION_SCALING, ""))
            wanted = raw["wanted"]
            return cls(
                wanted=None if wanted is None else int(wanted),
                replicas=int(raw["replicas"]),
                metric=str(raw.get("metric", "")),
                numbers=str(raw.get("numbers", "")),
                limit=str(raw.get("limit", "")),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
