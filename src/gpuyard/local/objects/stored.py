"""What every stored object has, whatever else an older or a damaged release has written."""

from __future__ import annotations

import re

import orjson

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
    return ""
