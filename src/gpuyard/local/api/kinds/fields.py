"""Rules that fields of many kinds share, in Kubernetes' own words.

Sources: apimachinery `pkg/util/validation`, `pkg/util/validation/field` and `pkg/api/validation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.local.api.kinds.kind import FieldError, KindSpec, details_of


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """A value that breaks a rule."""
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {detail}")


def required(path: str, detail: str = "") -> FieldError:
    """A field that must be there."""
    return FieldError(path, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def unsupported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    """A value outside a closed set."""
    names = ", ".join(f'"{name}"' for name in supported)
    return FieldError(
        path, "FieldValueNotSupported", f"Unsupported value: {_shown(value)}: supported values: {names}"
    )


def forbidden(path: str, detail: str) -> FieldError:
    """A field that may not be set, or not now."""
    return FieldError(path, "FieldValueForbidden", f"Forbidden: {detail}")


def duplicate(path: str, value: Any) -> FieldError:
    """A value that must be unique and isn't."""
    return FieldError(path, "FieldValueDuplicate", f"Duplicate value: {_shown(value)}")


def not_found(path: str, value: Any) -> FieldError:
    """A name of something that isn't there."""
    return FieldError(path, "FieldValueNotFound", f"Not found: {_shown(value)}")


def too_long(path: str, limit: int) -> FieldError:
    """Text or data over its limit in bytes."""
    return FieldError(path, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def invalid_object(spec: KindSpec, name: str, found: Sequence[FieldError]) -> errors.Invalid:
    """The 422 for an object with these broken rules."""
    lines = [f"{e.path}: {e.message}" for e in found]
    text = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    kind = f"{spec.resource.kind}.{spec.resource.group}" if spec.resource.group else spec.resource.kind
    message = f'{kind} "{name}" is invalid: {text}'
    return errors.Invalid(message, details=details_of(spec, name, list(found)))


def _shown(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
