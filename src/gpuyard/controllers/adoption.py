"""Whose an object is: references by which owners control, take on and let go of others.

Source: kubernetes `pkg/controller/controller_ref_manager.go`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from gpuyard import errors
from gpuyard.client.api import KubeApi, PatchType
from gpuyard.kube.objects import Manifest, Resource, key_of, labels_of, uid_of
from gpuyard.kube.selectors import Selector


def controller_reference(resource: Resource, owner: Manifest) -> dict[str, Any]:
    """The owner reference by which an object controls another."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def adoption(resource: Resource, owner: Manifest, orphan: Manifest) -> dict[str, Any]:
    """The strategic merge patch by which an owner takes on an object that nobody controls."""
    references = [controller_reference(resource, owner)]
    return {"metadata": {"uid": uid_of(orphan), "ownerReferences": references}}


def release(owner_uid: str, owned: Manifest) -> dict[str, Any]:
    """The strategic merge patch by which an owner lets go of an object that its selector doesn't match."""
    references = [{"$patch": "delete", "uid": owner_uid}]
    return {"metadata": {"uid": uid_of(owned), "ownerReferences": references}}


def selects(owner: Manifest, manifest: Manifest) -> bool:
    """Whether the owner's selector matches the object; an empty one matches none."""
    selector = owner["spec"].get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return False
    return Selector.of(selector).matches(labels_of(manifest))


async def is_current(api: KubeApi, resource: Resource, owner: Manifest) -> bool:
    """Whether the API, and not only a late informer, has this owner, and nobody is deleting it.

    To be asked before anything is taken on.
    """
    key = key_of(owner)
    try:
        now = await api.get(resource, key.name, key.namespace)
    except errors.NotFound:
        return False
    return uid_of(now) == uid_of(owner) and not now["metadata"].get("deletionTimestamp")


async def change_owner(
    api: KubeApi, resource: Resource, owned: Manifest, patch: dict[str, Any]
) -> Manifest | None:
    """What becomes of an object by `adoption` or `release`; None where it is gone, or another of its name."""
    key = key_of(owned)
    with contextlib.suppress(errors.NotFound, errors.Conflict, errors.Invalid):
        return await api.patch(resource, key.name, patch, key.namespace, patch_type=PatchType.STRATEGIC)
    return None
