"""The API's verbs over the store: what HTTP serves, and what the yard's own components call in process."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.client.api import ObjectList, PatchType, Propagation, WatchEvent
from gpuyard.kube.objects import (
    NAMESPACES,
    PODS,
    PRIORITY_CLASSES,
    STORAGE_CLASSES,
    Manifest,
    ObjectKey,
    Resource,
)
from gpuyard.kube.storage import DEFAULT_CLASS
from gpuyard.kube.wellknown import PROVISIONER_FOLDER, STORAGE_CLASS_FOLDER
from gpuyard.local.objects.admission import DEFAULT, WriteOptions, admit_body
from gpuyard.local.objects.deletion import DeleteOptions, parse_delete_options
from gpuyard.local.objects.evictions import Evictions
from gpuyard.local.objects.kinds.kind import KindSpec, Subresource
from gpuyard.local.objects.kinds.registry import Kinds
from gpuyard.local.objects.parameters import parse_version
from gpuyard.local.objects.patches import apply_patch
from gpuyard.local.objects.selection import Selection, parse_selection
from gpuyard.local.objects.view import View
from gpuyard.local.objects.writes import Writer, WrittenObject
from gpuyard.local.store import Store, Stored
from gpuyard.tenancy.install import priority_classes

_NAMESPACES = ("default", "kube-system", "kube-node-lease")
_SYSTEM_CLASSES = {
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if "
        "necessary.",
    ),
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}

#: Its folders are below the yard's own.
_FOLDER_CLASS: Manifest = {
    "metadata": {"name": STORAGE_CLASS_FOLDER, "annotations": {DEFAULT_CLASS: "true"}},
    "provisioner": PROVISIONER_FOLDER,
}


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class ObjectApi:
    """Implements `client.api.KubeApi` in process. One per store; belongs to the store's loop.

    Besides the protocol's methods it has `*_raw` ones for HTTP, which hand out the bytes that are stored.
    StoreError comes through when the disk fails.
    """

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        *,
        clock: Callable[[], datetime] = utc_now,
        rng: random.Random | None = None,
        no_images: Callable[[], str] = lambda: "",
    ) -> None:
        self.store = store
        self.kinds = kinds
        self.clock = clock
        self._writer = Writer(store, clock, rng or random.SystemRandom(), no_images)
        self._evictions = Evictions(store, kinds, self._writer, clock)

    async def bootstrap(self) -> None:
        """Makes what every cluster has, and the classes of `gpuyard install`, where they are missing."""
        wanted: list[tuple[Resource, Manifest]] = [
            (NAMESPACES, {"metadata": {"name": name}}) for name in _NAMESPACES
        ]
        wanted += [
            (PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value, "description": description})
            for name, (value, description) in _SYSTEM_CLASSES.items()
        ]
        wanted += [(PRIORITY_CLASSES, manifest) for manifest in priority_classes()]
        wanted.append((STORAGE_CLASSES, _FOLDER_CLASS))
        for resource, manifest in wanted:
            key = ObjectKey("", manifest["metadata"]["name"])
            if self.store.get(resource.qualified, key) is None:
                await self._writer.create(self.kinds.of(resource), "", manifest, DEFAULT, checked=False)

    # -- reading --------------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest:
        """See `KubeApi.get`."""
        spec = self.kinds.of(resource)
        return _decoded(self.get_raw(spec, key_for(spec, namespace, name)))

    def get_raw(self, spec: KindSpec, key: ObjectKey) -> Stored:
        """The object as stored; NotFound when it isn't there."""
        return self._writer.stored(spec, key)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        """See `KubeApi.list`."""
        spec = self.kinds.of(resource)
        selection = parse_selection(spec, label_selector, field_selector)
        stored, revision = self.store.list(resource.qualified, namespace if resource.namespaced else None)
        items = [item for item in map(_decoded, stored) if selection.matches(item)]
        return ObjectList(items, str(revision))

    def list_raw(
        self, spec: KindSpec, namespace: str | None, selection: Selection
    ) -> tuple[Sequence[Stored], int]:
        """Every matching object as stored, in key order, and the revision that they are as of."""
        items, revision = self.store.list(spec.resource.qualified, namespace)
        if not selection.is_empty:
            items = [item for item in items if selection.matches_bytes(item.value)]
        return items, revision

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """See `KubeApi.watch`; raises ServiceUnavailable when the store closes."""
        spec = self.kinds.of(resource)
        selection = parse_selection(spec, label_selector, field_selector)
        namespace = namespace if resource.namespaced else None
        async for seen in self.view(spec, namespace, parse_version(resource_version), selection):
            yield WatchEvent(seen.type, orjson.loads(seen.value))
        # To end without a word would have informers watch again at once, for ever.
        raise errors.ServiceUnavailable("the yard is stopping")

    def view(self, spec: KindSpec, namespace: str | None, after: int, selection: Selection) -> View:
        """Changes after a revision, encoded; Gone when the history doesn't reach back."""
        return View(self.store.watch(spec.resource.qualified, namespace, after), selection)

    # -- writing --------------------------------------------------------------------------------------

    async def create(
        self, resource: Resource, manifest: Mapping[str, Any], namespace: str | None = None
    ) -> Manifest:
        """See `KubeApi.create`."""
        namespace = namespace or (manifest.get("metadata") or {}).get("namespace") or ""
        answer = await self.create_raw(self.kinds.of(resource), namespace, manifest, DEFAULT)
        return answer.manifest

    async def create_raw(
        self, spec: KindSpec, namespace: str, manifest: Mapping[str, Any], options: WriteOptions
    ) -> WrittenObject:
        """Creates an object; `manifest` isn't changed."""
        if spec.resource.namespaced and not namespace:
            raise errors.BadRequest("an empty namespace may not be set during creation")
        return await self._writer.create(spec, namespace, manifest, options)

    async def update(
        self, resource: Resource, manifest: Mapping[str, Any], *, subresource: str = ""
    ) -> Manifest:
        """See `KubeApi.update`."""
        spec = self.kinds.of(resource)
        metadata = manifest["metadata"]
        key = key_for(spec, metadata.get("namespace"), metadata["name"])
        answer = await self.update_raw(spec, key, manifest, _part(spec, subresource), DEFAULT)
        return answer.manifest

    async def update_raw(
        self,
        spec: KindSpec,
        key: ObjectKey,
        manifest: Mapping[str, Any],
        subresource: Subresource | None,
        options: WriteOptions,
    ) -> WrittenObject:
        """Replaces an object or a part of it; `manifest` isn't changed."""
        return await self._writer.change(
            spec, key, lambda _old: manifest, subresource=subresource, options=options
        )

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> Manifest:
        """See `KubeApi.patch`."""
        spec = self.kinds.of(resource)
        key = key_for(spec, namespace, name)
        body = patch if isinstance(patch, Mapping) else list(patch)
        answer = await self.patch_raw(spec, key, body, patch_type, _part(spec, subresource), DEFAULT)
        return answer.manifest

    async def patch_raw(
        self,
        spec: KindSpec,
        key: ObjectKey,
        patch: Any,
        patch_type: PatchType,
        subresource: Subresource | None,
        options: WriteOptions,
    ) -> WrittenObject:
        """Changes some fields of an object, or of a part of it."""

        def patched(old: Manifest) -> Manifest:
            if subresource is not None and subresource.view is not None:
                return apply_patch(subresource.body, subresource.view(old), patch, patch_type)
            return apply_patch(spec.resource, old, patch, patch_type)

        return await self._writer.change(
            spec,
            key,
            patched,
            subresource=subresource,
            options=replace(options, is_patch=True),
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_s: int | None = None,
        propagation: Propagation | None = None,
        uid: str | None = None,
    ) -> None:
        """See `KubeApi.delete`."""
        spec = self.kinds.of(resource)
        options = DeleteOptions(grace_period_s, propagation, uid or "")
        await self.delete_raw(spec, key_for(spec, namespace, name), options)

    async def delete_raw(self, spec: KindSpec, key: ObjectKey, options: DeleteOptions) -> WrittenObject:
        """Deletes an object or marks it; the answer says which."""
        return await self._writer.delete(spec, key, options)

    async def bind(self, namespace: str, name: str, node: str, *, uid: str = "") -> None:
        """See `KubeApi.bind`."""
        spec = self.kinds.of(PODS)
        binding = {"metadata": {"uid": uid}, "target": {"name": node}}
        part = spec.subresource("binding")
        if part is None:
            raise errors.NotFound("the server could not find the requested resource")
        await self.create_below_raw(spec, ObjectKey(namespace, name), part, binding, DEFAULT)

    async def create_below_raw(
        self, spec: KindSpec, key: ObjectKey, part: Subresource, given: Any, options: WriteOptions
    ) -> WrittenObject:
        """Does to an object what a body says that is created below it: a binding, an eviction."""
        body, warnings = admit_body(spec, key, part, given, options)
        apply, now = part.apply, self.clock()
        assert apply is not None, f"nothing can be created as {part.name}"

        def change(old: Manifest) -> Manifest:
            return apply(spec, old, body, now)

        if part.evicts is not None:
            dry_run = {"dryRun": "All"} if options.dry_run else {}
            deletion = parse_delete_options(part.evicts(body), dry_run)
            answer = await self._evictions.evict(spec, key, change, deletion)
        else:
            # `apply` keeps the rules itself: a binding sets what no update may.
            answer = await self._writer.change(spec, key, change, options=options, checked=False)
        return replace(answer, warnings=warnings)


def _part(spec: KindSpec, subresource: str) -> Subresource | None:
    """A subresource by its name, None for the object itself; NotFound when it isn't served."""
    part = spec.subresource(subresource)
    if subresource and part is None:
        raise errors.NotFound("the server could not find the requested resource")
    return part


def key_for(spec: KindSpec, namespace: str | None, name: str) -> ObjectKey:
    """The key of an object; BadRequest when its namespace is missing."""
    if not spec.resource.namespaced:
        return ObjectKey("", name)
    if not namespace:
        raise errors.BadRequest("an empty namespace may not be set when a resource name is provided")
    return ObjectKey(namespace, name)


def _decoded(stored: Stored) -> Manifest:
    manifest: Manifest = orjson.loads(stored.value)
    return manifest
