"""PriorityClasses.

Source: kubernetes `pkg/apis/scheduling/validation`.
"""

from __future__ import annotations

from gpuyard.kube.objects import PRIORITY_CLASSES, Manifest
from gpuyard.local.objects.kinds.cells import AGE, NAME
from gpuyard.local.objects.kinds.fields import check_immutable, check_one_of, forbidden
from gpuyard.local.objects.kinds.kind import Column, FieldError, KindSpec

_HIGHEST_OF_USERS = 1_000_000_000
_POLICIES = ("PreemptLowerPriority", "Never")


def _default(priority_class: Manifest) -> None:
    priority_class.setdefault("value", 0)
    priority_class.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _validate(priority_class: Manifest, old: Manifest | None) -> list[FieldError]:
    found = check_one_of("preemptionPolicy", priority_class.get("preemptionPolicy", ""), _POLICIES)
    if old is not None:
        if priority_class.get("value", 0) != old.get("value", 0):
            found.append(forbidden("value", "may not be changed in an update."))
        return found + check_immutable("", priority_class, old, "preemptionPolicy")
    name = priority_class["metadata"].get("name", "")
    if name.startswith("system-"):
        detail = "priority class names with 'system-' prefix are reserved for system use only. error: "
        detail += f"{name} is not a known system priority class"
        found.append(forbidden("metadata.name", detail))
    if priority_class.get("value", 0) > _HIGHEST_OF_USERS:
        detail = f"maximum allowed value of a user defined priority is {_HIGHEST_OF_USERS}"
        found.append(forbidden("value", detail))
    return found


PRIORITY_CLASS = KindSpec(
    resource=PRIORITY_CLASSES,
    short_names=("pc",),
    default=_default,
    validate=_validate,
    columns=(
        NAME,
        Column("Value", lambda c, _now: c.get("value", 0), type="integer"),
        Column("Global-Default", lambda c, _now: bool(c.get("globalDefault")), type="boolean"),
        AGE,
        Column("PreemptionPolicy", lambda c, _now: c.get("preemptionPolicy", "")),
    ),
)
