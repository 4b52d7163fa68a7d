"""What makes a GPU unhealthy, what that means, and what mends it; and how a node's annotation says it.

The device plugin API knows only Healthy and Unhealthy, so the reason takes another way: the agent's labeller
writes it as an annotation of the node, and whoever explains something reads it there.
Sources: https://docs.nvidia.com/deploy/xid-errors, nvml.h.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuyard.gpus.occupants import Occupant, node_occupants, whole_number, withheld
from gpuyard.gpus.resources import has_simulated_gpus
from gpuyard.kube.objects import annotations_of, labels_of
from gpuyard.kube.wellknown import (
    ANNOTATION_GPU_DRIVER,
    ANNOTATION_GPU_HEALTH,
    ANNOTATION_NO_GPUS,
    ANNOTATION_UNOFFERED,
    LABEL_GPU_MODEL,
)

LOST = "lost"
ECC = "uncorrectable ECC error"
ROW_REMAP_PENDING = "row remap pending"
ROW_REMAP_FAILED = "row remap failed"
PAGES_PENDING = "page retirement pending"
RESET_REQUIRED = "reset required"
NO_PERMISSION = "permission denied"
DRIVER_GONE = "driver gone"
#: Of AMD's GPUs.
RAS = "uncorrectable RAS error"
IN_RESET = "in reset"
BAD_PAGES_PENDING = "bad memory page pending"
BAD_PAGES_FAILED = "bad memory page in use"
HOT = "too hot"
NO_NODE = "device node missing"

_RESET = "{empty} and reset the GPU: nvidia-smi --gpu-reset -i {index}"
_REBOOT = "{empty} and reboot it; if it comes again, have the GPU, its slot and its power checked"
_AMD_RESET = "{empty} and reset the GPU: amd-smi reset --gpureset --gpu {index}"
_REPLACE = "{empty} and have the GPU replaced"
_LOOK = "see the node's kernel log for lines with Xid, and nvidia-smi -q -i {index}"
#: Before anything is done to a GPU, nothing may run on it.
_ON_CLUSTER, _ON_YARD = "drain the node", "end what runs here (`gpuyard down --stop`)"
_SIMULATED = "take it away with `gpuyard node fault --gpu {index} --xid recovered`: it is simulated"
#: Reason → what it means (empty: it says so itself), and what mends it.
_KNOWN = {
    "XID 32": ("invalid or corrupted push buffer stream", _RESET),
    "XID 38": ("driver firmware error", _RESET),
    "XID 46": ("GPU stopped processing", _RESET),
    "XID 48": ("double bit ECC error", _RESET),
    "XID 54": ("auxiliary power is not connected", "connect the GPU's power cable"),
    "XID 61": ("internal micro-controller breakpoint", _RESET),
    "XID 62": ("internal micro-controller halt", _RESET),
    "XID 63": ("ECC page retirement or row remapping recorded", _RESET),
    "XID 64": ("ECC page retirement or row remapping failed", _REPLACE),
    "XID 74": ("NVLink error", f"{_RESET}; if it comes again, have its NVLinks checked"),
    "XID 79": ("GPU has fallen off the bus", _REBOOT),
    "XID 92": ("high single-bit ECC error rate", _REPLACE),
    "XID 94": ("contained ECC error", _RESET),
    "XID 95": ("uncontained ECC error", _RESET),
    "XID 119": ("GSP RPC timeout", _RESET),
    "XID 120": ("GSP error", _RESET),
    "XID 136": ("link training failed", _REBOOT),
    "XID 140": ("unrecovered ECC error", _RESET),
    "XID 143": ("GPU initialization failure", _REBOOT),
    LOST: ("the driver doesn't reach it any more", _REBOOT),
    ECC: ("", _RESET),
    ROW_REMAP_PENDING: ("a reset puts spare memory rows in the place of bad ones", _RESET),
    ROW_REMAP_FAILED: ("no spare memory rows are left", _REPLACE),
    PAGES_PENDING: ("a reset takes bad memory pages out of use", _RESET),
    RESET_REQUIRED: ("", _RESET),
    DRIVER_GONE: (
        "it answers for no GPU",
        "see whether nvidia-smi (or amd-smi) works on the node, and its kernel log",
    ),
    HOT: ("it is over its temperature limit", "see the node's fans and the air that it gets"),
    NO_NODE: (
        "nobody can open the GPU",
        "make it again: `nvidia-modprobe -c {index}`, or `udevadm trigger`",
    ),
    RAS: ("a part of the GPU counted an error that it couldn't correct", _AMD_RESET),
    IN_RESET: ("the driver resets it after a fault", "wait; see the node's kernel log for lines with amdgpu"),
    BAD_PAGES_PENDING: ("a reset takes the page out of use", _AMD_RESET),
    BAD_PAGES_FAILED: (
        "the driver can't take it out of use",
        _REPLACE,
    ),
    NO_PERMISSION: ("the driver refuses the agent", "let the agent read the GPU's device files"),
}
_SIMULATE = "`gpuyard up --simulate H100:8` simulates some"
SPLIT_OTHERWISE = (
    "split GPUs as the MIG strategy needs it (`gpuyard node mig apply`), or take another: "
    "`gpuyard down --keep && gpuyard up --mig-strategy mixed`"
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:\.\d+)?Z")
_MAX_REASON_LENGTH = 100
_MAX_WHY_LENGTH = 500
#: More than any node has.
_MAX_FAULTS = 256
_MAX_SHOWN = 2


@dataclass(frozen=True)
class GpuFault:
    """One unhealthy GPU.

    Attributes:
        index: in the driver's order.
        uuid: the driver's, which is the device's id for the kubelet.
        reason: `XID 79`, or one of this module's words.
        since: when it became unhealthy, RFC 3339.
        simulated: there is no such GPU.
    """

    index: int
    uuid: str
    reason: str
    since: str
    simulated: bool = False

    def __str__(self) -> str:
        return self.on_node("")

    def on_node(self, name: str) -> str:
        """`GPU 3 of node NAME is unhealthy: XID 79 (GPU has fallen off the bus) since …`."""
        meaning, _ = _KNOWN.get(self.reason, ("", ""))
        return (
            f"{self._who}{name and f' of node {name}'} is unhealthy: {self.reason}"
            + (f" ({meaning})" if meaning else "")
            + self._when
        )

    @property
    def past(self) -> str:
        """`GPU 3 is healthy again, after XID 79 since …`."""
        return f"{self._who} is healthy again, after {self.reason}{self._when}"

    @property
    def _who(self) -> str:
        gpu = f"GPU {self.index}"
        return f"MIG instance {self.uuid} of {gpu}" if self.uuid.startswith("MIG-") else gpu

    @property
    def _when(self) -> str:
        when = _TIME.fullmatch(self.since)
        return f" since {when[1]} {when[2]} UTC" if when else ""

    def remedy(self, *, on_yard: bool) -> str:
        """For whoever runs the node, which on a yard is its user's own machine."""
        _, known = _KNOWN.get(self.reason, ("", _LOOK))
        remedy = _SIMULATED if self.simulated else known
        return remedy.format(index=self.index, empty=_ON_YARD if on_yard else _ON_CLUSTER)

    def to_json(self) -> dict[str, Any]:
        """All that the annotation has."""
        return {"index": self.index, "uuid": self.uuid, "reason": self.reason, "since": self.since}


def xid(number: int) -> str:
    """The reason that an XID is."""
    return f"XID {number}"


def format_faults(faults: Iterable[GpuFault]) -> str:
    """The annotation's value; empty when there are none."""
    raw = [fault.to_json() for fault in faults]
    return json.dumps(raw, separators=(",", ":")) if raw else ""


def node_faults(node: Mapping[str, Any]) -> tuple[GpuFault, ...]:
    """The unhealthy GPUs of a node, as far as its annotation says; what isn't readable there is left out."""
    try:
        raw = json.loads(annotations_of(node).get(ANNOTATION_GPU_HEALTH) or "[]")
    except (ValueError, RecursionError):
        return ()
    simulated = has_simulated_gpus(node)
    found = (_fault(each, simulated) for each in raw[:_MAX_FAULTS]) if isinstance(raw, list) else ()
    return tuple(fault for fault in found if fault is not None)


def lacking(node: Mapping[str, Any]) -> tuple[GpuFault | Occupant, ...]:
    """Why GPUs of a node can't be had: those that are unhealthy, then those that others have."""
    return (*node_faults(node), *withheld(node_occupants(node)))


def in_one_line(faults: Sequence[GpuFault | Occupant]) -> str:
    """The first two, and how many more."""
    more = f", and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
    return "; ".join(map(str, faults[:_MAX_SHOWN])) + more


def health_changes(before: Iterable[GpuFault], after: Iterable[GpuFault]) -> Iterator[tuple[bool, str]]:
    """What to tell of each GPU whose health changed: whether it is well now, and that in words."""
    was, now = {fault.uuid: fault for fault in before}, {fault.uuid: fault for fault in after}
    for uuid, fault in now.items():
        if uuid not in was or was[uuid].reason != fault.reason:
            yield False, f"{fault} ({uuid})"
    for uuid in was.keys() - now.keys():
        yield True, f"{was[uuid].past} ({uuid})"


def says_health(labels: Mapping[str, str]) -> bool:
    """Whether gpuyard's agent labels the node: it names each unhealthy GPU before the kubelet hears of it."""
    return LABEL_GPU_MODEL in labels


def no_gpus_text(node: Mapping[str, Any]) -> str:
    """Why a node has no GPUs to give, as its agent says; empty where it doesn't."""
    return _told(node, ANNOTATION_NO_GPUS)


def unoffered_text(node: Mapping[str, Any]) -> str:
    """Which of a node's GPUs its agent doesn't offer though others are, and why; empty where it says none."""
    return _told(node, ANNOTATION_UNOFFERED)


def without_gpus_remedy(node: Mapping[str, Any]) -> str:
    """What gives a yard's node GPUs to give, of which it has none now."""
    # One with a model's label has GPUs, and its options offer none of them.
    return SPLIT_OTHERWISE if says_health(labels_of(node)) else _SIMULATE


def driver_text(node: Mapping[str, Any]) -> str:
    """Why the driver of a node's GPUs doesn't answer, as its agent says; empty where it doesn't."""
    return _told(node, ANNOTATION_GPU_DRIVER)


def _told(node: Mapping[str, Any], annotation: str) -> str:
    # Anybody who may write nodes may write it, and it goes to terminals.
    told = annotations_of(node).get(annotation, "")
    return "".join(filter(str.isprintable, told))[:_MAX_WHY_LENGTH]


def why_none(faults: Sequence[GpuFault | Occupant], labels: Mapping[str, str], total: int) -> str:
    """Why none of a node's GPUs can be had, though it has some.

    Args:
        faults: its unhealthy GPUs, and those that others have.
        labels: of the node.
        total: how many GPUs it has.
    """
    if faults and (len(faults) >= total or not says_health(labels)):
        return in_one_line(faults)
    if says_health(labels):
        return "its device plugin is gone: the agent calls none of them unhealthy"
    return "its device plugin is gone, or says that all are unhealthy: it isn't gpuyard's, and names none"


def _fault(raw: Any, simulated: bool) -> GpuFault | None:
    if not isinstance(raw, dict) or (index := whole_number(raw.get("index"))) is None:
        return None
    # Anybody who may write nodes may write it, and it goes to terminals.
    uuid, reason, since = (
        "".join(filter(str.isprintable, str(raw.get(name, ""))))[:_MAX_REASON_LENGTH]
        for name in ("uuid", "reason", "since")
    )
    return GpuFault(index, uuid, reason, since, simulated)
