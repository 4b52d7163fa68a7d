"""Rules of label selectors with `matchLabels` and `matchExpressions`.

Source: apimachinery `pkg/apis/meta/v1/validation/validation.go` (ValidateLabelSelector).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.local.objects.kinds.fields import (
    check_key,
    check_label_value,
    check_labels,
    forbidden,
    invalid,
    required,
)
from gpuyard.local.objects.kinds.kind import FieldError


def validate_selector(path: str, selector: Mapping[str, Any]) -> list[FieldError]:
    """Broken rules of a `LabelSelector`."""
    found = check_labels(f"{path}.matchLabels", selector.get("matchLabels") or {})
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        found += _validate_expression(f"{path}.matchExpressions[{index}]", expression)
    return found


def _validate_expression(path: str, expression: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    operator, values = expression.get("operator", ""), expression.get("values") or ()
    match operator:
        case "In" | "NotIn":
            if not values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                found.append(required(f"{path}.values", detail))
        case "Exists" | "DoesNotExist":
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                found.append(forbidden(f"{path}.values", detail))
        case _:
            found.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    found += check_key(f"{path}.key", expression.get("key", ""))
    for index, value in enumerate(values):
        found += check_label_value(f"{path}.values[{index}]", value)
    return found
