"""Rules that fields of many kinds share, in Kubernetes' own words.

Sources: apimachinery `pkg/util/validation`, `pkg/util/validation/field` and `pkg/api/validation`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.kube.names import is_label, is_subdomain
from gpuyard.local.objects.kinds.kind import FieldError, KindSpec, details_of

_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_PERCENT = re.compile(r"[0-9]{1,9}%")
_PERCENT_RULE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', "
    "regex used for validation is '[0-9]+%')"
)
_PORT_NAME = re.compile(r"[-a-z0-9]+")
_MAX_PORT = 65_535
_PORT_RULE = f"must be between 1 and {_MAX_PORT}, inclusive"
_SHOWN_CHARACTERS = 200
#: A body of 3 MiB may break a hundred thousand rules.
_SHOWN_ERRORS = 100

IMMUTABLE = "field is immutable"
NEGATIVE = "must be greater than or equal to 0"
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_PREFIX_RULE = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
KEY_RULE = f"name part {_NAME_RULE}"
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """A value that breaks a rule."""
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {detail}")


def invalid_here(path: str, detail: str) -> FieldError:
    """As `invalid`, of something too large to show."""
    return FieldError(path, "FieldValueInvalid", f"Invalid value: {detail}")


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
    """Text or data over its limit in bytes; of a whole object the path is `[]`."""
    return FieldError(path, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def check_at_most(path: str, items: Sequence[Any], limit: int) -> list[FieldError]:
    """A list of so many items at most."""
    if len(items) <= limit:
        return []
    text = f"Too many: {len(items)}: must have at most {limit} items"
    return [FieldError(path, "FieldValueTooMany", text)]


def invalid_object(spec: KindSpec, name: str, found: Sequence[FieldError]) -> errors.Invalid:
    """The 422 for an object with these broken rules."""
    if len(found) > _SHOWN_ERRORS:
        rest = len(found) - _SHOWN_ERRORS
        found = [*found[:_SHOWN_ERRORS], FieldError("[]", "FieldValueInvalid", f"and {rest} more")]
    lines = list(dict.fromkeys(f"{e.path}: {e.message}" for e in found))
    text = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    kind = f"{spec.resource.kind}.{spec.resource.group}" if spec.resource.group else spec.resource.kind
    message = f'{kind} "{name}" is invalid: {text}'
    return errors.Invalid(message, details=details_of(spec, name, list(found)))


def invalid_options(kind: str, error: FieldError) -> errors.Invalid:
    """The 422 for a parameter of a request: of ListOptions, DeleteOptions…"""
    return errors.Invalid(
        f'{kind}.meta.k8s.io "" is invalid: {error.path}: {error.message}',
        details={
            "group": "meta.k8s.io",
            "kind": kind,
            "causes": [{"reason": error.type, "message": error.message, "field": error.path}],
        },
    )


def check_label_name(path: str, name: str) -> list[FieldError]:
    """A name that must be an RFC 1123 label."""
    if not name:
        return [required(path)]
    if len(name) > 63:
        return [invalid(path, name, "must be no more than 63 characters")]
    if "." in name:
        return [invalid(path, name, "must not contain dots")]
    return [] if is_label(name) else [invalid(path, name, LABEL_RULE)]


def check_subdomain_name(path: str, name: str) -> list[FieldError]:
    """A name that must be an RFC 1123 subdomain."""
    if not name:
        return [required(path)]
    if len(name) > 253:
        return [invalid(path, name, "must be no more than 253 characters")]
    return [] if is_subdomain(name) else [invalid(path, name, SUBDOMAIN_RULE)]


def check_key(path: str, key: str) -> list[FieldError]:
    """A key of a label, annotation, taint or resource: `[prefix/]name`."""
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        return [invalid(path, key, f"a valid label key {_NAME_RULE} {_PREFIX_RULE}")]
    if slash and not prefix:
        return [invalid(path, key, "prefix part must be non-empty")]
    if slash and not is_subdomain(prefix):
        return [invalid(path, key, f"prefix part {SUBDOMAIN_RULE}")]
    if not name:
        return [invalid(path, key, "name part must be non-empty")]
    if len(name) > 63:
        return [invalid(path, key, "name part must be no more than 63 bytes")]
    return [] if _QUALIFIED_NAME.fullmatch(name) else [invalid(path, key, KEY_RULE)]


def check_label_value(path: str, value: str) -> list[FieldError]:
    """A value of a label."""
    if len(value) > 63:
        return [invalid(path, value, "must be no more than 63 bytes")]
    return [] if _LABEL_VALUE.fullmatch(value) else [invalid(path, value, VALUE_RULE)]


def check_labels(path: str, labels: Mapping[str, str]) -> list[FieldError]:
    """Keys and values of a map of labels."""
    found: list[FieldError] = []
    for key, value in labels.items():
        found += check_key(path, key) + check_label_value(path, value)
    return found


def check_one_of(path: str, value: str, supported: Sequence[str]) -> list[FieldError]:
    """Text from a closed set; absent is an error."""
    if not value:
        return [required(path)]
    return [] if value in supported else [unsupported(path, value, supported)]


def check_port_number(path: str, number: int) -> list[FieldError]:
    """A port that there is."""
    return [] if 1 <= number <= _MAX_PORT else [invalid(path, number, _PORT_RULE)]


def check_port(path: str, port: int | str) -> list[FieldError]:
    """A port by its number, or by the name that a container gives it."""
    if isinstance(port, int):
        return check_port_number(path, port)
    rules = {
        "must be no more than 15 characters": len(port) <= 15,
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)": _PORT_NAME.fullmatch(port),
        "must contain at least one letter (a-z)": any("a" <= letter <= "z" for letter in port),
        "must not contain consecutive hyphens": "--" not in port,
        "must not begin or end with a hyphen": not (port.startswith("-") or port.endswith("-")),
    }
    return [invalid(path, port, rule) for rule, holds in rules.items() if not holds]


def check_not_negative(path: str, holder: Mapping[str, Any], *names: str) -> list[FieldError]:
    """Numbers below `path` that may be absent and not below 0."""
    return [invalid(f"{path}.{name}", holder[name], NEGATIVE) for name in names if holder.get(name, 0) < 0]


def check_number_or_percent(path: str, value: int | str) -> list[FieldError]:
    """A number that isn't negative, or a percentage."""
    if isinstance(value, str):
        return [] if _PERCENT.fullmatch(value) else [invalid(path, value, _PERCENT_RULE)]
    return check_not_negative(path.rpartition(".")[0], {(name := path.rpartition(".")[2]): value}, name)


def number_of(value: int | str) -> int:
    """The number itself, or that of a percentage; 0 for other text."""
    if isinstance(value, int):
        return value
    return int(value[:-1]) if _PERCENT.fullmatch(value) else 0


def check_immutable(
    path: str, new: Mapping[str, Any], old: Mapping[str, Any], *names: str
) -> list[FieldError]:
    """Fields below `path` that must stay as they are."""
    return [
        invalid(f"{path}.{name}" if path else name, new.get(name), IMMUTABLE)
        for name in names
        if not same(new.get(name), old.get(name))
    ]


def same(left: Any, right: Any) -> bool:
    """Equal as Kubernetes compares: an absent field is the same as an empty one or false."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return all(same(left.get(key), right.get(key)) for key in left.keys() | right.keys())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if _is_empty(left) and _is_empty(right):
        return True
    return bool(left == right)


def _is_empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _shown(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return (
        text if len(text) <= _SHOWN_CHARACTERS or isinstance(value, str) else text[:_SHOWN_CHARACTERS] + "…"
    )
