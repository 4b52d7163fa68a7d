"""Nodes.

Sources: kubernetes `pkg/apis/core/validation` (ValidateNode), printNode in `pkg/printers/internalversion`.
"""

from __future__ import annotations

from datetime import datetime

from gpuyard.kube.conditions import find_condition
from gpuyard.kube.objects import NODES, Manifest, labels_of
from gpuyard.local.objects.kinds.cells import AGE, NAME, joined, text
from gpuyard.local.objects.kinds.fields import check_immutable
from gpuyard.local.objects.kinds.kind import Column, FieldError, KindSpec, status_subresource
from gpuyard.local.objects.kinds.placement import validate_taints
from gpuyard.local.objects.kinds.resources import validate_amount

_ROLE = "node-role.kubernetes.io/"


def _default(node: Manifest) -> None:
    node.setdefault("spec", {})
    status = node.setdefault("status", {})
    # What a node can hold it offers, unless it says otherwise.
    if "capacity" in status and "allocatable" not in status:
        status["allocatable"] = dict(status["capacity"])


def _validate(node: Manifest, old: Manifest | None) -> list[FieldError]:
    spec = node.get("spec") or {}
    found = validate_taints("metadata.taints", spec.get("taints") or ())
    for field in ("capacity", "allocatable"):
        for name, quantity in ((node.get("status") or {}).get(field) or {}).items():
            found += validate_amount(f"status.{field}[{name}]", name, quantity)
    before = (old or {}).get("spec") or {}
    if before.get("providerID"):
        found += check_immutable("spec", spec, before, "providerID")
    return found


def _status(node: Manifest, _now: datetime) -> str:
    ready = find_condition(node, "Ready")
    words = [] if ready is None else ["Ready" if ready.get("status") == "True" else "NotReady"]
    if (node.get("spec") or {}).get("unschedulable"):
        words = [*(words or ["Unknown"]), "SchedulingDisabled"]
    return ",".join(words) or "Unknown"


def _roles(node: Manifest, _now: datetime) -> str:
    roles = {key.removeprefix(_ROLE) for key in labels_of(node) if key.startswith(_ROLE)}
    role = labels_of(node).get("kubernetes.io/role")
    return joined(sorted(roles | ({role} if role else set()) - {""}))


def _address(kind: str) -> Column:
    def cell(node: Manifest, _now: datetime) -> str:
        for address in (node.get("status") or {}).get("addresses") or ():
            if address.get("type") == kind:
                return text(address.get("address"))
        return text("")

    return Column(kind.replace("IP", "-IP"), cell, priority=1)


def _info(name: str, field: str, priority: int = 1) -> Column:
    def cell(node: Manifest, _now: datetime) -> str:
        return ((node.get("status") or {}).get("nodeInfo") or {}).get(field) or "<unknown>"

    return Column(name, cell, priority=priority)


NODE = KindSpec(
    resource=NODES,
    short_names=("no",),
    default=_default,
    validate=_validate,
    columns=(
        NAME,
        Column("Status", _status, description="Whether the node is ready, and takes pods."),
        Column("Roles", _roles),
        AGE,
        _info("Version", "kubeletVersion", priority=0),
        _address("InternalIP"),
        _address("ExternalIP"),
        _info("OS-Image", "osImage"),
        _info("Kernel-Version", "kernelVersion"),
        _info("Container-Runtime", "containerRuntimeVersion"),
    ),
    selectable_fields=frozenset(("spec.unschedulable",)),
    subresources=(status_subresource(NODES),),
)
