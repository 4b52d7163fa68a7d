"""What every stored object has, whatever else an older or a damaged release has written."""

from __future__ import annotations

import re
from functools import cache

import orjson

from gpuyard import errors
from gpuyard.local.objects.kinds.schema import decode, type_name
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.store.database import Row

#: Names folders of the kubelet, so it must be a plain name.
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


def find_fault(row: Row) -> str:
    """What keeps an object from being found and handed out; empty when nothing does."""
    try:
        manifest = orjson.loads(row.value)
    except orjson.JSONDecodeError as error:
        return f"it is no JSON: {error}"
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    if not isinstance(metadata, dict):
        return "it has no metadata"
    if (metadata.get("namespace") or "", metadata.get("name")) != (row.namespace, row.name):
        return "its metadata names another object"
    if not isinstance(metadata.get("uid"), str) or not _UID.fullmatch(metadata["uid"]):
        return "its metadata.uid is no name"
    if not isinstance(metadata.get("resourceVersion"), str):
        return "its metadata.resourceVersion is no text"
    try:
        if (type_ := _types().get(row.resource)) is not None:
            decode(type_, manifest)
    except errors.BadRequest as error:
        return error.message
    return ""


@cache
def _types() -> dict[str, str]:
    """Each kind's type in the schema, by the name of its resource."""
    return {kind.resource.qualified: type_name(kind.resource) for kind in yard_kinds()}
