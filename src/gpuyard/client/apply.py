"""Bringing a cluster in line with manifests by server-side apply, and taking objects away again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum

from gpuyard import errors
from gpuyard.client.api import Propagation
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import Manifest, ObjectKey, Resource, key_of

_LOOK_S = 0.2


class ApplyResult(StrEnum):
    """What an apply did."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


async def apply(api: RestApi, resource: Resource, manifest: Manifest) -> ApplyResult:
    """Applies one manifest and says what that changed."""
    before = await find(api, resource, key_of(manifest))
    after = await api.apply(resource, manifest)
    if before is None:
        return ApplyResult.CREATED
    return ApplyResult.UNCHANGED if _content(before) == _content(after) else ApplyResult.CHANGED


def _content(manifest: Manifest) -> Manifest:
    """Without what the cluster itself writes, perhaps just now."""
    metadata = manifest["metadata"]
    kept = {name: metadata[name] for name in metadata.keys() - {"resourceVersion", "managedFields"}}
    return {**manifest, "metadata": kept, "status": None}


async def find(api: RestApi, resource: Resource, key: ObjectKey) -> Manifest | None:
    """The object, None when there is none."""
    try:
        return await api.get(resource, key.name, key.namespace)
    except errors.NotFound:
        return None


async def labelled(api: RestApi, resource: Resource, selector: str) -> Sequence[Manifest]:
    """The objects of a kind with these labels; none where the cluster doesn't know the kind."""
    try:
        return (await api.list(resource, label_selector=selector)).items
    except errors.NotFound:
        return ()


async def delete(api: RestApi, resource: Resource, manifest: Manifest, *, timeout_s: float) -> bool:
    """Deletes an object and what it owns, and waits until it is gone; False when it isn't after that time."""
    key, uid = key_of(manifest), manifest["metadata"]["uid"]
    try:
        await api.delete(resource, key.name, key.namespace, propagation=Propagation.FOREGROUND, uid=uid)
    except (errors.NotFound, errors.Conflict):
        return True  # Gone, or another one of that name by now.
    try:
        async with asyncio.timeout(timeout_s):
            while (now := await find(api, resource, key)) and now["metadata"]["uid"] == uid:
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        return False
    return True
