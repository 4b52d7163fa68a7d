"""Which fields a kind has and of which type: reads a manifest as Kubernetes' decoder would.

schema.json is generated (tools/generate_schema.py says how types are written in it) and loaded once
per process, on first use.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.kube.quantity import canonical_quantity
from gpuyard.kube.timestamps import format_micro_time, format_time, parse_time

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_MICRO_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_INDEX = re.compile(r"\[[^\]]*\]")
_QUANTITY_RULE = (
    r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_GO_TYPES = {
    "s": "string", "b": "bool", "i": "int32", "l": "int64", "q": "resource.Quantity", "t": "v1.Time",
    "u": "v1.MicroTime", "x": "intstr.IntOrString", "d": "[]uint8", "j": "map[string]interface {}",
}  # fmt: skip


@dataclass(frozen=True)
class TypeInfo:
    """One type of the schema.

    Attributes:
        fields: name → type, in the notation of schema.json.
        required: fields that Kubernetes' schema marks as such (validation says so, not decoding).
        patch: fields whose lists merge in a strategic merge patch: name → merge key, empty for a set of
            scalars, with `,retainKeys` where that strategy applies; `,replace` for one that doesn't merge.
    """

    fields: Mapping[str, str]
    required: tuple[str, ...] = ()
    patch: Mapping[str, str] | None = None


class _Mismatch(Exception):
    """A value that its field's type refuses; the path is filled while the stack unwinds."""

    def __init__(self, value: Any, go_type: str, rule: str = "") -> None:
        super().__init__()
        self.value, self.go_type, self.rule = value, go_type, rule
        self.struct = ""
        self.path = ""

    def at(self, part: str, struct: str = "") -> None:
        """Says one step of the way, from the inside out."""
        dot = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{part}{dot}{self.path}"
        self.struct = self.struct or struct

    def __str__(self) -> str:
        if self.rule:
            return f"{self.path}: {self.rule}"
        place = f"Go struct field {self.struct}.{_INDEX.sub('', self.path)}" if self.path else "Go value"
        found = _json_kind(self.value, self.go_type)
        return f"json: cannot unmarshal {found} into {place} of type {self.go_type}"


_Reader = Callable[[Any, list[str]], Any]


@cache
def types() -> Mapping[str, TypeInfo]:
    """Every type by name: `core.v1.Pod`, `meta.v1.ObjectMeta`."""
    raw = orjson.loads(resources.files(__package__).joinpath("schema.json").read_bytes())
    return {
        name: TypeInfo(t["fields"], tuple(t.get("required", ())), t.get("patch")) for name, t in raw.items()
    }


def type_name(resource: Resource) -> str:
    """The schema's name of a resource's kind: `batch.v1.Job`."""
    return f"{(resource.group or 'core').split('.')[0]}.{resource.version}.{resource.kind}"


def decode(type_: str, manifest: Any) -> tuple[Manifest, list[str]]:
    """A fresh copy of known fields with nulls dropped and quantities and times in canonical form.

    Args:
        type_: name of the schema's type.
        manifest: any JSON value.

    Returns:
        The copy, and the paths of unknown fields, as `unknown field "spec.foo"` names them.

    Raises:
        BadRequest: a value has a wrong type.
    """
    unknown: list[str] = []
    try:
        found: Manifest = _reader(f"@{type_}")(manifest, unknown)
    except _Mismatch as mismatch:
        _, version, kind = type_.split(".")
        raise errors.BadRequest(
            f'{kind} in version "{version}" cannot be handled as a {kind}: {mismatch}'
        ) from None
    return found, unknown


def strict_error(resource: Resource, unknown: list[str]) -> errors.BadRequest:
    """The refusal of unknown fields under `fieldValidation=Strict`."""
    fields = ", ".join(f'unknown field "{path}"' for path in unknown)
    return errors.BadRequest(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
        f"strict decoding error: {fields}"
    )


@cache
def _reader(kind: str) -> _Reader:
    match kind[0]:
        case "@":
            return _struct_reader(kind[1:])
        case "[":
            return _list_reader(kind)
        case "{":
            return _map_reader(kind)
    return _SCALARS[kind]


def _struct_reader(type_: str) -> _Reader:
    struct = type_.rsplit(".", 1)[1]
    readers: dict[str, _Reader] = {}

    def read(value: Any, unknown: list[str]) -> Any:
        if type(value) is not dict:
            raise _Mismatch(value, f"v1.{struct}")
        if not readers:
            readers.update((name, _reader(kind)) for name, kind in types()[type_].fields.items())
        result = {}
        key = ""
        try:
            for key, item in value.items():
                reader = readers.get(key)
                if reader is None:
                    unknown.append(key)
                elif item is not None:
                    known = len(unknown)
                    result[key] = reader(item, unknown)
                    if len(unknown) > known:
                        _prefix(unknown, known, key)
        except _Mismatch as mismatch:
            mismatch.at(key, struct)
            raise
        return result

    return read


def _list_reader(kind: str) -> _Reader:
    reader, zero = _reader(kind[1:]), _zero(kind[1:])

    def read(value: Any, unknown: list[str]) -> Any:
        if type(value) is not list:
            raise _Mismatch(value, _go_type(kind))
        result = []
        index = 0
        try:
            for index, item in enumerate(value):
                known = len(unknown)
                result.append(zero() if item is None else reader(item, unknown))
                if len(unknown) > known:
                    _prefix(unknown, known, f"[{index}]")
        except _Mismatch as mismatch:
            mismatch.at(f"[{index}]")
            raise
        return result

    return read


def _map_reader(kind: str) -> _Reader:
    reader, zero = _reader(kind[1:]), _zero(kind[1:])

    def read(value: Any, unknown: list[str]) -> Any:
        if type(value) is not dict:
            raise _Mismatch(value, _go_type(kind))
        result = {}
        try:
            for key, item in value.items():
                result[key] = zero() if item is None else reader(item, unknown)
        except _Mismatch as mismatch:
            mismatch.at(f"[{key}]")
            raise
        return result

    return read


def _prefix(unknown: list[str], start: int, part: str) -> None:
    for i in range(start, len(unknown)):
        dot = "" if unknown[i].startswith("[") else "."
        unknown[i] = f"{part}{dot}{unknown[i]}"


def _zero(kind: str) -> Callable[[], Any]:
    """What Go's decoder makes of a null in a list or map."""
    return _ZEROS.get(kind[0], dict)


def _go_type(kind: str) -> str:
    if kind[0] == "[":
        return "[]" + _go_type(kind[1:])
    if kind[0] == "{":
        return "map[string]" + _go_type(kind[1:])
    return f"v1.{kind.rsplit('.', 1)[1]}" if kind[0] == "@" else _GO_TYPES[kind]


def _json_kind(value: Any, go_type: str) -> str:
    match value:
        case bool():
            return "bool"
        case int() | float():
            return f"number {value}" if go_type.startswith("int") else "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _text(value: Any, _unknown: list[str]) -> Any:
    if type(value) is not str:
        raise _Mismatch(value, "string")
    return value


def _bool(value: Any, _unknown: list[str]) -> Any:
    if type(value) is not bool:
        raise _Mismatch(value, "bool")
    return value


def _int32(value: Any, _unknown: list[str]) -> Any:
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise _Mismatch(value, "int32")
    return value


def _int64(value: Any, _unknown: list[str]) -> Any:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise _Mismatch(value, "int64")
    return value


def _int_or_text(value: Any, unknown: list[str]) -> Any:
    if type(value) is str:
        return value
    if type(value) is int:
        return _int32(value, unknown)
    raise _Mismatch(value, "intstr.IntOrString")


def _quantity(value: Any, _unknown: list[str]) -> Any:
    if type(value) not in (str, int, float):
        raise _Mismatch(value, "resource.Quantity")
    try:
        return canonical_quantity(str(value))
    except ValueError:
        raise _Mismatch(value, "resource.Quantity", _QUANTITY_RULE) from None


def _time(value: Any, _unknown: list[str]) -> Any:
    return _moment(value, _TIME, format_time)


def _micro_time(value: Any, _unknown: list[str]) -> Any:
    return _moment(value, _MICRO_TIME, format_micro_time)


def _moment(value: Any, canonical: re.Pattern[str], form: Callable[[datetime], str]) -> str:
    if type(value) is not str:
        raise _Mismatch(value, "string")
    try:
        moment = parse_time(value)
        return value if canonical.fullmatch(value) else form(moment)
    except (ValueError, OverflowError):
        raise _Mismatch(value, "v1.Time", f'parsing time "{value}": it must be RFC 3339') from None


def _base64(value: Any, _unknown: list[str]) -> Any:
    if type(value) is not str:
        raise _Mismatch(value, "[]uint8")
    plain = value.replace("\n", "").replace("\r", "")
    try:
        base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Mismatch(value, "[]uint8", f"illegal base64 data: {error}") from None
    return plain


def _any_object(value: Any, _unknown: list[str]) -> Any:
    if type(value) is not dict:
        raise _Mismatch(value, "map[string]interface {}")
    return value


_ZEROS: Mapping[str, Callable[[], Any]] = {
    "s": str, "d": str, "b": bool, "i": int, "l": int, "x": int, "q": lambda: "0", "[": list,
}  # fmt: skip
_SCALARS: Mapping[str, _Reader] = {
    "s": _text, "b": _bool, "i": _int32, "l": _int64, "q": _quantity, "t": _time, "u": _micro_time,
    "x": _int_or_text, "d": _base64, "j": _any_object,
}  # fmt: skip
