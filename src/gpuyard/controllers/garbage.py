"""The garbage collector: deletes what has lost its owners, and holds owners that wait for dependents."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from gpuyard import errors
from gpuyard.client.api import KubeApi, PatchType
from gpuyard.client.informer import Informer
from gpuyard.client.supervision import ObjectReference, Supervisor
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.ownership import (
    FINALIZER_FOREGROUND,
    FINALIZER_ORPHAN,
    Delete,
    OwnerState,
    decide,
    finalizers_of,
    is_deleting,
    references_of,
)
from gpuyard.kube.objects import Manifest, ObjectKey, Resource, key_of, uid_of

_WORKERS = 8


class _Item(NamedTuple):
    resource: Resource
    key: ObjectKey


class GarbageCollector:
    """Follows owner references over all the kinds that it is given.

    Each object is handled by one worker at a time. An owner counts as gone only when the API itself says
    so, never because an informer is late. References to kinds that it isn't given are left alone.
    """

    def __init__(self, api: KubeApi, informers: Mapping[Resource, Informer], supervisor: Supervisor) -> None:
        self._api = api
        self._informers = dict(informers)
        self._kinds = {(resource.group, resource.kind): resource for resource in informers}
        #: uid of an owner → its dependents.
        self._dependents: dict[str, set[_Item]] = {}
        self._queue: WorkQueue[_Item] = WorkQueue("garbage", self._sync, supervisor, self._reference)
        for resource, informer in informers.items():
            informer.add_handler(partial(self._on_change, resource))

    async def run(self) -> None:
        """Works until cancelled."""
        for informer in self._informers.values():
            await informer.synced()
        await self._queue.run(_WORKERS)

    def _reference(self, item: _Item) -> ObjectReference:
        return self._informers[item.resource].reference(item.key)

    def _on_change(self, resource: Resource, old: Manifest | None, new: Manifest | None) -> None:
        if old is not None and new is not None and _ties(old) == _ties(new):
            return
        if old is not None:
            self._unlink(_Item(resource, key_of(old)), old)
        if new is not None:
            item = _Item(resource, key_of(new))
            for reference in references_of(new):
                self._dependents.setdefault(reference["uid"], set()).add(item)
            if references_of(new) or new["metadata"].get("deletionTimestamp"):
                self._queue.add(item)
        elif old is not None:
            for dependent in self._dependents.get(uid_of(old), ()):
                self._queue.add(dependent)

    def _unlink(self, item: _Item, old: Manifest) -> None:
        for reference in references_of(old):
            dependents = self._dependents.get(reference["uid"], set())
            dependents.discard(item)
            if not dependents:
                self._dependents.pop(reference["uid"], None)
            # An owner that waits for its dependents has one fewer, or may have.
            owner = self._owner_item(reference, item)
            if owner is not None and owner.key in self._informers[owner.resource].objects:
                self._queue.add(owner)

    def _owner_item(self, reference: Mapping[str, Any], dependent: _Item) -> _Item | None:
        """The object that a reference names; None for a kind that isn't followed, or across namespaces."""
        group = reference["apiVersion"].rpartition("/")[0]
        resource = self._kinds.get((group, reference["kind"]))
        if resource is None or (resource.namespaced and not dependent.key.namespace):
            return None
        namespace = dependent.key.namespace if resource.namespaced else ""
        return _Item(resource, ObjectKey(namespace, reference["name"]))

    async def _sync(self, item: _Item) -> None:
        manifest = self._informers[item.resource].objects.get(item.key)
        if manifest is None:
            return
        if is_deleting(manifest, FINALIZER_ORPHAN):
            await self._orphan_dependents(item, manifest)
        elif is_deleting(manifest, FINALIZER_FOREGROUND):
            await self._await_dependents(item, manifest)
        elif not manifest["metadata"].get("deletionTimestamp"):
            await self._judge(item, manifest)

    async def _judge(self, item: _Item, manifest: Manifest) -> None:
        references = references_of(manifest)
        states = {r["uid"]: await self._state_of(r, item) for r in references}
        verdict = decide(
            manifest,
            lambda reference: states[reference["uid"]],
            has_dependents=bool(self._dependents.get(uid_of(manifest))),
        )
        name, namespace = item.key.name, item.key.namespace
        with contextlib.suppress(errors.NotFound):
            if isinstance(verdict, Delete):
                await self._api.delete(
                    item.resource, name, namespace, propagation=verdict.propagation, uid=uid_of(manifest)
                )
            elif verdict.references != references:
                await self._patch_metadata(item, manifest, {"ownerReferences": list(verdict.references)})

    async def _state_of(self, reference: Mapping[str, Any], dependent: _Item) -> OwnerState:
        item = self._owner_item(reference, dependent)
        if item is None:
            return OwnerState.PRESENT
        owner = self._informers[item.resource].objects.get(item.key)
        if owner is None or uid_of(owner) != reference["uid"]:
            try:
                owner = await self._api.get(item.resource, item.key.name, item.key.namespace)
            except errors.NotFound:
                return OwnerState.ABSENT
            if uid_of(owner) != reference["uid"]:
                return OwnerState.ABSENT
        return OwnerState.WAITING if is_deleting(owner, FINALIZER_FOREGROUND) else OwnerState.PRESENT

    async def _await_dependents(self, item: _Item, owner: Manifest) -> None:
        """Sets the dependents going; the owner may go when none is left that blocks it."""
        dependents = self._dependents.get(uid_of(owner), set())
        for dependent in dependents:
            self._queue.add(dependent)
        if not any(self._blocks(dependent, uid_of(owner)) for dependent in dependents):
            await self._drop_finalizer(item, owner, FINALIZER_FOREGROUND)

    def _blocks(self, dependent: _Item, owner_uid: str) -> bool:
        manifest = self._informers[dependent.resource].objects.get(dependent.key)
        return manifest is not None and any(
            reference["uid"] == owner_uid and reference.get("blockOwnerDeletion")
            for reference in references_of(manifest)
        )

    async def _orphan_dependents(self, item: _Item, owner: Manifest) -> None:
        for dependent in list(self._dependents.get(uid_of(owner), ())):
            manifest = self._informers[dependent.resource].objects.get(dependent.key)
            if manifest is None:
                continue
            kept = [r for r in references_of(manifest) if r["uid"] != uid_of(owner)]
            with contextlib.suppress(errors.NotFound):
                await self._patch_metadata(dependent, manifest, {"ownerReferences": kept})
        await self._drop_finalizer(item, owner, FINALIZER_ORPHAN)

    async def _drop_finalizer(self, item: _Item, manifest: Manifest, finalizer: str) -> None:
        kept = [name for name in finalizers_of(manifest) if name != finalizer]
        with contextlib.suppress(errors.NotFound):
            await self._patch_metadata(item, manifest, {"finalizers": kept})

    async def _patch_metadata(self, item: _Item, seen: Manifest, change: Mapping[str, Any]) -> None:
        """Changes metadata of exactly the object that was seen; Conflict when it has moved on."""
        metadata = {"uid": uid_of(seen), "resourceVersion": seen["metadata"]["resourceVersion"], **change}
        await self._api.patch(
            item.resource,
            item.key.name,
            {"metadata": metadata},
            item.key.namespace,
            patch_type=PatchType.MERGE,
        )


def _ties(manifest: Manifest) -> tuple[object, ...]:
    """All of an object that matters here: a change elsewhere needs no look."""
    deleted_at = manifest["metadata"].get("deletionTimestamp")
    return references_of(manifest), finalizers_of(manifest), deleted_at
