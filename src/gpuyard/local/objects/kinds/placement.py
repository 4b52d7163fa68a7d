"""Where a pod may run: node selector, affinity, tolerations, taints.

Source: kubernetes `pkg/apis/core/validation` (validateAffinity, ValidateTolerations, validateNodeTaints).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpuyard.local.objects.kinds.fields import (
    check_key,
    check_label_value,
    check_labels,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import FieldError

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate_placement(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    """All of a pod spec that says where it may run."""
    found = check_labels(f"{path}.nodeSelector", spec.get("nodeSelector") or {})
    found += _validate_node_affinity(
        f"{path}.affinity.nodeAffinity", (spec.get("affinity") or {}).get("nodeAffinity") or {}
    )
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        found += _validate_toleration(f"{path}.tolerations[{index}]", toleration)
    return found


def validate_taints(path: str, taints: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    """A node's taints; key and effect together are unique."""
    found: list[FieldError] = []
    seen = set()
    for index, taint in enumerate(taints):
        place = f"{path}[{index}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        found += check_key(f"{place}.key", key) + check_label_value(f"{place}.value", taint.get("value", ""))
        if not effect:
            found.append(required(f"{place}.effect"))
        elif effect not in _EFFECTS:
            found.append(unsupported(f"{place}.effect", effect, _EFFECTS))
        if (key, effect) in seen:
            shown = {
                "Key": key, "Value": taint.get("value", ""), "Effect": effect,
                "TimeAdded": taint.get("timeAdded"),
            }  # fmt: skip
            error = duplicate(place, shown)
            detail = "taints must be unique by key and effect pair"
            found.append(replace(error, message=f"{error.message}: {detail}"))
        seen.add((key, effect))
    return found


def _validate_toleration(path: str, toleration: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    key, operator = toleration.get("key", ""), toleration.get("operator", "")
    value, effect = toleration.get("value", ""), toleration.get("effect", "")
    if key:
        found += check_key(f"{path}.key", key)
    elif operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        found.append(invalid(f"{path}.operator", operator, detail))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        found.append(invalid(f"{path}.effect", effect, detail))
    match operator:
        case "" | "Equal":
            found += check_label_value(f"{path}.value", value)
        case "Exists":
            if value:
                detail = "value must be empty when `operator` is 'Exists'"
                found.append(invalid(f"{path}.operator", value, detail))
        case _:
            found.append(unsupported(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in _EFFECTS:
        found.append(unsupported(f"{path}.effect", effect, _EFFECTS))
    return found


def _validate_node_affinity(path: str, affinity: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    wanted = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if wanted is not None:
        place = f"{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        terms = wanted.get("nodeSelectorTerms") or ()
        if not terms:
            found.append(required(place, "must have at least one node selector term"))
        for index, term in enumerate(terms):
            found += _validate_term(f"{place}[{index}]", term)
    for index, preference in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        place = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        if not 1 <= preference.get("weight", 0) <= 100:
            found.append(
                invalid(f"{place}.weight", preference.get("weight", 0), "must be in the range 1-100")
            )
        if "preference" not in preference:
            found.append(required(f"{place}.preference"))
        found += _validate_term(f"{place}.preference", preference.get("preference") or {})
    return found


def _validate_term(path: str, term: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    for index, expression in enumerate(term.get("matchExpressions") or ()):
        found += _validate_expression(f"{path}.matchExpressions[{index}]", expression)
    for index, expression in enumerate(term.get("matchFields") or ()):
        place = f"{path}.matchFields[{index}]"
        if expression.get("operator") not in ("In", "NotIn"):
            detail = "not a valid selector operator"
            found.append(invalid(f"{place}.operator", expression.get("operator", ""), detail))
        elif len(expression.get("values") or ()) != 1:
            detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            found.append(required(f"{place}.values", detail))
        if expression.get("key") != "metadata.name":
            detail = "not a valid field selector key"
            found.append(invalid(f"{place}.key", expression.get("key", ""), detail))
    return found


def _validate_expression(path: str, expression: Mapping[str, Any]) -> list[FieldError]:
    values, operator = expression.get("values") or (), expression.get("operator", "")
    found = check_key(f"{path}.key", expression.get("key", ""))
    match operator:
        case "In" | "NotIn":
            if not values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                found.append(required(f"{path}.values", detail))
        case "Exists" | "DoesNotExist":
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                found.append(forbidden(f"{path}.values", detail))
        case "Gt" | "Lt":
            if len(values) != 1:
                detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                found.append(required(f"{path}.values", detail))
        case _:
            found.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    return found
