"""The CDI kind of our GPUs, and what is wrong with the spec of a node; how a node's annotation says it.

A container runtime that can't tell which of two specs counts resolves neither, and says no more than
"unresolvable CDI devices". So the agent looks, its labeller writes what it found as an annotation of the
node, and whoever explains something reads it there.
Source: https://github.com/cncf-tags/container-device-interface, pkg/cdi/cache.go (`refresh`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from gpuyard.kube.objects import annotations_of
from gpuyard.kube.wellknown import ANNOTATION_CDI

#: Not `nvidia.com/gpu`: what `nvidia-ctk cdi generate` and `nvidia-cdi-refresh` write has that kind, with the
#: names that we would give.
KIND = "gpuyard.io/gpu"
SPEC_FILE = "gpuyard.io-gpu.json"
#: Where container runtimes look, and agents write.
FOLDER = "/var/run/cdi"
_MAX_LENGTH = 300
_MAX_FAULTS = 16


class CdiTrouble(StrEnum):
    """What is wrong; the first is the worst."""

    PIPE = "pipe"
    DUPLICATE = "duplicate"
    UNWRITTEN = "unwritten"
    REWRITTEN = "rewritten"


@dataclass(frozen=True)
class CdiFault:
    """One fault.

    Attributes:
        file: the PIPE, the other spec of a DUPLICATE, else our own.
        detail: why it can't be written, or what something else did to it and when.
    """

    trouble: CdiTrouble
    file: str
    detail: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether containers can't get GPUs as long as it lasts."""
        return self.trouble is not CdiTrouble.REWRITTEN

    def __str__(self) -> str:
        match self.trouble:
            case CdiTrouble.PIPE:
                return (
                    f"{self.file} is a pipe: the container runtime waits for its other end, and starts no "
                    "container with GPUs"
                )
            case CdiTrouble.DUPLICATE:
                return (
                    f"{self.file} has CDI devices of the same names as the agent's own spec: the container "
                    f"runtime then resolves no {KIND} at all"
                )
            case CdiTrouble.UNWRITTEN:
                return f"the agent can't write its CDI spec {self.file}: {self.detail}"
            case CdiTrouble.REWRITTEN:
                return f"the CDI spec {self.file} was {self.detail}; the agent has written it again"

    @property
    def remedy(self) -> str:
        """For whoever runs the node."""
        match self.trouble:
            case CdiTrouble.PIPE:
                return f"remove {self.file} from the node, and restart the container runtime there"
            case CdiTrouble.DUPLICATE:
                return f"remove {self.file} from the node; waiting containers then start by themselves"
            case CdiTrouble.UNWRITTEN:
                return "mend the folder on the node; the agent writes it then by itself"
            case CdiTrouble.REWRITTEN:
                return (
                    "find what does it on the node: something that cleans /run, configuration management, "
                    "another install"
                )


def format_cdi_faults(faults: Iterable[CdiFault]) -> str:
    """The annotation's value, with the worst of them; empty when there are none."""
    raw = [asdict(fault) for fault in _worst_first(faults)[:_MAX_FAULTS]]
    return json.dumps(raw, separators=(",", ":")) if raw else ""


def node_cdi_faults(node: Mapping[str, Any]) -> tuple[CdiFault, ...]:
    """The faults of a node, the worst first, as its annotation says; what isn't readable is left out."""
    try:
        raw = json.loads(annotations_of(node).get(ANNOTATION_CDI) or "[]")
    except (ValueError, RecursionError):
        return ()
    found = map(_fault, raw[:_MAX_FAULTS]) if isinstance(raw, list) else ()
    return tuple(_worst_first(filter(None, found)))


def _worst_first(faults: Iterable[CdiFault]) -> list[CdiFault]:
    order = list(CdiTrouble)
    return sorted(faults, key=lambda fault: order.index(fault.trouble))


def _fault(raw: Any) -> CdiFault | None:
    if not isinstance(raw, dict) or raw.get("trouble") not in list(CdiTrouble):
        return None
    # Anybody who may write nodes may write it, and it goes to terminals.
    file, detail = (
        "".join(filter(str.isprintable, str(raw.get(name, ""))))[:_MAX_LENGTH] for name in ("file", "detail")
    )
    return CdiFault(CdiTrouble(raw["trouble"]), file, detail)
