"""What an update of a pod may change.

Source: kubernetes `pkg/apis/core/validation` ValidatePodUpdate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.local.objects.kinds.fields import forbidden, invalid, same
from gpuyard.local.objects.kinds.kind import FieldError

_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def validate_pod_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[FieldError]:
    """Broken rules of a changed spec."""
    found: list[FieldError] = []
    for field in ("containers", "initContainers"):
        if len(new.get(field) or ()) != len(old.get(field) or ()):
            return [forbidden(f"spec.{field}", "pod updates may not add or remove containers")]
    found += _validate_deadline(new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    found += _validate_tolerations(new.get("tolerations") or [], old.get("tolerations") or [])
    found += _validate_gates(new.get("schedulingGates") or [], old.get("schedulingGates") or [])
    changed = _first_change(new, old)
    if changed:
        found.append(forbidden("spec", f"{_RULE}\nchanged: {changed}"))
    return found


def _validate_deadline(new: int | None, old: int | None) -> list[FieldError]:
    path = "spec.activeDeadlineSeconds"
    if old is None or new == old:
        return []
    if new is None:
        return [invalid(path, None, "must not update from a positive integer to nil value")]
    return [invalid(path, new, "must be less than or equal to previous value")] if new > old else []


def _validate_tolerations(new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[FieldError]:
    detail = "existing toleration can not be modified except its tolerationSeconds"
    kept = [_without_seconds(toleration) for toleration in new]
    if any(_without_seconds(toleration) not in kept for toleration in old):
        return [forbidden("spec.tolerations", detail)]
    return []


def _without_seconds(toleration: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}


def _validate_gates(new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[FieldError]:
    had = [gate.get("name") for gate in old]
    return [
        forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for index, gate in enumerate(new)
        if gate.get("name") not in had
    ]


def _first_change(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """The first field that changed though it may not, empty when there is none."""
    mutable = {"activeDeadlineSeconds", "tolerations", "schedulingGates"}
    if old.get("schedulingGates"):
        # Before it is scheduled, a gated pod may still be told where to go.
        mutable |= {"nodeSelector", "affinity"}
    for field in sorted((new.keys() | old.keys()) - mutable):
        before, after = old.get(field), new.get(field)
        if field in ("containers", "initContainers"):
            before, after = _without_images(before), _without_images(after)
        if not same(before, after):
            return f"spec.{field}"
    return ""


def _without_images(containers: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [{k: v for k, v in container.items() if k != "image"} for container in containers or ()]
