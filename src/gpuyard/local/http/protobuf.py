"""Bodies in protobuf, read into the form that their JSON has; imported only when such a body comes.

The messages are those of Kubernetes' own .proto files (proto/k8s.io), as `_proto/kubernetes.binpb` describes
them. Source of the envelope: apimachinery `pkg/runtime/serializer/protobuf/protobuf.go`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any, cast

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import format_micro_time, format_time
from gpuyard.local.objects.kinds.schema import types

_MAGIC = b"k8s\x00"
_UNKNOWN = "k8s.io.apimachinery.pkg.runtime.Unknown"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_protobuf(body: bytes) -> Manifest:
    """The object of a body as JSON would have it.

    What Go writes though it isn't set (empty text, the zero time) is left out; zero and false stay, since
    they can be meant.

    Raises:
        BadRequest: it is no such body, or its kind isn't known.
    """
    if not body.startswith(_MAGIC):
        raise errors.BadRequest("the body of the request is not protobuf: it doesn't begin with k8s\\0")
    unknown = _parsed(_UNKNOWN, body[len(_MAGIC) :])
    api_version, kind = unknown.typeMeta.apiVersion, unknown.typeMeta.kind
    if unknown.contentEncoding or unknown.contentType not in ("", "application/vnd.kubernetes.protobuf"):
        raise errors.BadRequest("the body of the request has another encoding inside its protobuf")
    group, _, version = api_version.rpartition("/")
    name = f"{(group or 'core').split('.')[0]}.{version}.{kind}"
    package = "k8s.io.api"
    if kind == "DeleteOptions":
        name, package = "meta.v1.DeleteOptions", "k8s.io.apimachinery.pkg.apis"
    if name not in types():
        raise errors.BadRequest(
            f'no kind "{kind}" is registered for version "{api_version}": this yard reads its own kinds only'
        )
    message = _parsed(f"{package}.{name}", unknown.raw)
    try:
        return {"apiVersion": api_version, "kind": kind, **_fields(message, name)}
    except (UnicodeDecodeError, OverflowError) as error:
        raise errors.BadRequest(f"the body of the request is not valid protobuf: {error}") from error


@cache
def _pool() -> DescriptorPool:
    """The types of the files, apart from those of other libraries in this process."""
    pool = DescriptorPool()
    described = resources.files("gpuyard").joinpath("_proto/kubernetes.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(described).file:
        pool.Add(file)
    return pool


def _parsed(name: str, raw: bytes) -> Any:
    message = GetMessageClass(_pool().FindMessageTypeByName(name))()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise errors.BadRequest(f"the body of the request is not valid protobuf: {error}") from error
    return message


def _fields(message: Message, type_: str) -> Manifest:
    """The fields of a message that is of this type of the schema."""
    result: Manifest = {}
    kinds = types()[type_].fields
    for descriptor, value in message.ListFields():
        kind = kinds.get(descriptor.name)
        if kind is not None:
            read = _value(value, kind)
            if read is not None and read != "":
                result[descriptor.name] = read
        elif isinstance(value, Message):
            # A Go struct that is embedded: its fields stand among those of the type in JSON.
            result |= _fields(value, type_)
    return result


def _value(value: Any, kind: str) -> Any:
    """One value of a type of the schema; None for what isn't set."""
    match kind[0]:
        case "[":
            # A list that is a map's value is a message of its own, which has nothing but its items.
            items = cast(Any, value).items if isinstance(value, Message) else value
            return [_value(item, kind[1:]) for item in items]
        case "{":
            return {key: _value(value[key], kind[1:]) for key in value}
        case "@":
            return _fields(value, kind[1:])
    return _SCALARS[kind](value) if kind in _SCALARS else value


def _time(value: Any) -> str | None:
    return format_time(_EPOCH + timedelta(seconds=value.seconds)) if value.ListFields() else None


def _micro_time(value: Any) -> str | None:
    moment = _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
    return format_micro_time(moment) if value.ListFields() else None


#: Types that are messages or bytes in protobuf and text or a number in JSON. Of `j` only managedFields are
#: more than an empty object, and those aren't kept.
_SCALARS: Mapping[str, Callable[[Any], Any]] = {
    "q": lambda value: value.string,
    "t": _time,
    "u": _micro_time,
    "x": lambda value: value.strVal if value.type else value.intVal,
    "d": lambda value: base64.b64encode(value).decode(),
    "j": lambda _value: {},
}
