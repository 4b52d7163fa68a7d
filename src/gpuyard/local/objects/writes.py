"""The one place that writes objects: create, change and delete, each object's writes one after another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import orjson

from gpuyard import errors
from gpuyard.kube.objects import NAMESPACES, PRIORITY_CLASSES, STORAGE_CLASSES, Manifest, ObjectKey
from gpuyard.kube.storage import is_default_class
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects import metadata as meta
from gpuyard.local.objects.admission import DEFAULT, WriteOptions, admit_change, check_rules, decode
from gpuyard.local.objects.deletion import DeleteOptions, is_released, mark_deleted
from gpuyard.local.objects.kinds.fields import invalid_object
from gpuyard.local.objects.kinds.kind import CreateContext, KindSpec, Subresource
from gpuyard.local.store import Change, Store, Stored

_GENERATE_ATTEMPTS = 8
_RACE_ATTEMPTS = 5


@dataclass(frozen=True)
class WrittenObject:
    """An object as it is after a write, decoded and encoded; `gone` when the write removed it."""

    manifest: Manifest
    value: bytes
    warnings: tuple[str, ...] = ()
    gone: bool = False


class _Raced(Exception):
    """A write whose caller was cancelled, and so gave up its turn, was committed first."""


class Writer:
    """Serialises the writes to each object, so that none of ours ever loses a compare-and-swap."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], datetime],
        rng: random.Random,
        no_images: Callable[[], str] = lambda: "",
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._locks: WeakValueDictionary[tuple[str, ObjectKey], asyncio.Lock] = WeakValueDictionary()
        #: Namespaces whose deletion is on its way to disk: creates that come later must not overtake it.
        self._terminating: set[str] = set()
        self._context = CreateContext(
            self._priority_class, self._default_priority_class, self._default_storage_class, no_images
        )

    def stored(self, spec: KindSpec, key: ObjectKey) -> Stored:
        """The object as committed.

        Raises:
            NotFound: it isn't there.
        """
        found = self._store.get(spec.resource.qualified, key)
        if found is None:
            raise meta.not_found(spec, key.name)
        return found

    async def create(
        self,
        spec: KindSpec,
        namespace: str,
        given: Mapping[str, Any],
        options: WriteOptions,
        *,
        checked: bool = True,
    ) -> WrittenObject:
        """Completes, checks and stores a new object; `given` isn't changed.

        `checked=False` is for the server's own objects, which rules for users would refuse.

        Raises:
            BadRequest, Invalid, NotFound, Forbidden, AlreadyExists: as Kubernetes would.
        """
        metadata = given.get("metadata") if isinstance(given, Mapping) else None
        named = isinstance(metadata, Mapping) and bool(metadata.get("name"))
        for _ in range(0 if named else _GENERATE_ATTEMPTS - 1):
            try:
                return await self._create(spec, namespace, given, options, checked=checked)
            except errors.AlreadyExists:
                continue
        return await self._create(spec, namespace, given, options, checked=checked)

    async def _create(
        self,
        spec: KindSpec,
        namespace: str,
        given: Mapping[str, Any],
        options: WriteOptions,
        *,
        checked: bool,
    ) -> WrittenObject:
        manifest, warnings = decode(spec.resource, given, options)
        if manifest["metadata"].get("resourceVersion"):
            raise errors.BadRequest("resourceVersion should not be set on objects to be created")
        meta.check_names(spec, manifest, ObjectKey(namespace, ""))
        self._require_namespace(spec, namespace, manifest["metadata"].get("name", ""))
        spec.default(manifest)
        meta.complete_new(spec, manifest, self._clock(), self._rng)
        spec.prepare_create(manifest, self._context)
        # Once more, as Kubernetes does with whatever it reads back: a Job takes over its template's labels.
        spec.default(manifest)
        if checked:
            check_rules(spec, manifest, None)
        return WrittenObject(manifest, await self._insert(spec, manifest, options), warnings)

    async def change(
        self,
        spec: KindSpec,
        key: ObjectKey,
        change: Callable[[Manifest], Mapping[str, Any]],
        *,
        subresource: Subresource | None = None,
        options: WriteOptions = DEFAULT,
        checked: bool = True,
    ) -> WrittenObject:
        """Stores what `change` makes of the object; it gets a copy that it may keep and change.

        Args:
            spec: the kind.
            key: names the object.
            change: called with the object as it is when nothing else writes it; once more in the rare case
                that a write of a cancelled caller was still on its way.
            subresource: which part is written; None for all but the status.
            options: of the request.
            checked: False for a change that the server itself makes and that needs no rules.

        Raises:
            NotFound: it isn't there.
            Conflict, BadRequest, Invalid: what `change` made breaks a precondition or a rule.
        """

        async def attempt(stored: Stored) -> WrittenObject:
            old = orjson.loads(stored.value)
            given = change(orjson.loads(stored.value))
            warnings: tuple[str, ...] = ()
            if checked:
                new, warnings = admit_change(spec, key, given, old, subresource, options)
            else:
                new = dict(given)
            if new == old:
                return WrittenObject(old, stored.value, warnings)
            if is_released(new):
                return WrittenObject(new, await self._remove(spec, stored, new, options), warnings, gone=True)
            return WrittenObject(new, await self._replace(spec, stored, new, options), warnings)

        return await self._in_turn(spec, key, attempt)

    async def delete(self, spec: KindSpec, key: ObjectKey, options: DeleteOptions) -> WrittenObject:
        """Removes the object, or marks it for those who hold it.

        Raises:
            NotFound: it isn't there.
            Conflict: a precondition fails.
        """

        async def attempt(stored: Stored) -> WrittenObject:
            old = orjson.loads(stored.value)
            meta.check_delete_preconditions(spec, old, options.uid, options.resource_version)
            marked = mark_deleted(spec, old, options, self._clock())
            write = WriteOptions(dry_run=options.dry_run)
            if marked is None:
                if spec.graceful:
                    at = format_time(self._clock())
                    old["metadata"] |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": 0}
                return WrittenObject(old, await self._remove(spec, stored, old, write), gone=True)
            if marked == old:
                return WrittenObject(old, stored.value)
            if spec.resource != NAMESPACES or options.dry_run:
                return WrittenObject(marked, await self._replace(spec, stored, marked, write))
            self._terminating.add(key.name)
            try:
                return WrittenObject(marked, await self._replace(spec, stored, marked, write))
            finally:
                self._terminating.discard(key.name)

        return await self._in_turn(spec, key, attempt)

    async def _in_turn(
        self, spec: KindSpec, key: ObjectKey, attempt: Callable[[Stored], Awaitable[WrittenObject]]
    ) -> WrittenObject:
        """Runs one attempt at a time on each object, on its committed state."""
        lock = self._locks.setdefault((spec.resource.qualified, key), asyncio.Lock())
        async with lock:
            for _ in range(_RACE_ATTEMPTS):
                try:
                    return await attempt(self.stored(spec, key))
                except _Raced:
                    continue
        raise meta.conflict(spec, key.name, "it is being changed too often; please try again")

    def _require_namespace(self, spec: KindSpec, namespace: str, name: str) -> None:
        if not spec.resource.namespaced:
            return
        found = self._store.get(NAMESPACES.qualified, ObjectKey("", namespace))
        if found is None:
            named = {"name": namespace, "kind": NAMESPACES.plural}
            raise errors.NotFound(f'namespaces "{namespace}" not found', details=named)
        terminating = orjson.loads(found.value)["metadata"].get("deletionTimestamp")
        if terminating or namespace in self._terminating:
            why = f"namespace {namespace} is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"}
            raise errors.Forbidden(
                f'{spec.resource.qualified} "{name}" is forbidden: unable to create new content in namespace '
                f"{namespace} because it is being terminated",
                details={**meta.details(spec, name), "causes": [cause]},
            )

    def _priority_class(self, name: str) -> Manifest | None:
        found = self._store.get(PRIORITY_CLASSES.qualified, ObjectKey("", name))
        return None if found is None else orjson.loads(found.value)

    def _default_priority_class(self) -> Manifest | None:
        items, _ = self._store.list(PRIORITY_CLASSES.qualified, None)
        defaults = [c for c in (orjson.loads(item.value) for item in items) if c.get("globalDefault") is True]
        # An odd one that an older release stored must not keep every pod from being made.
        whole = [c for c in defaults if isinstance(c.get("value"), int)]
        return min(whole, key=lambda c: int(c["value"]), default=None)

    def _default_storage_class(self) -> str:
        items, _ = self._store.list(STORAGE_CLASSES.qualified, None)
        defaults = [c["metadata"] for c in (orjson.loads(i.value) for i in items) if is_default_class(c)]
        # As in Kubernetes: the newest, so that a new one needn't be made together with the old one's end.
        newest = max(defaults, key=lambda metadata: str(metadata["creationTimestamp"]), default=None)
        return str(newest["name"]) if newest else ""

    async def _insert(self, spec: KindSpec, manifest: Manifest, options: WriteOptions) -> bytes:
        metadata = manifest["metadata"]
        key = ObjectKey(metadata.get("namespace", ""), metadata["name"])
        resource = spec.resource.qualified
        allocate = partial(self._allocate, spec, manifest)
        if options.dry_run:
            if (taken := self._store.get(resource, key)) is not None:
                raise meta.already_exists(spec, key.name, deleting=_is_deleting(taken))
            allocate(self._store.list(resource, None)[0])
            return orjson.dumps(manifest)
        settle = allocate if spec.allocate is not None else None
        try:
            stored = await self._store.write(Change.create(resource, key, _encoder(manifest), settle))
        except errors.AlreadyExists as error:
            deleting = _is_deleting(self._store.get(resource, key))
            raise meta.already_exists(spec, key.name, deleting=deleting) from error
        return stored.value

    def _allocate(self, spec: KindSpec, manifest: Manifest, others: Sequence[Stored]) -> None:
        """Gives a new object what no other of its kind has.

        Raises:
            Invalid: another has what it asks for, or there is nothing left.
        """
        if spec.allocate is None:
            return
        if found := list(spec.allocate(manifest, (orjson.loads(other.value) for other in others), self._rng)):
            raise invalid_object(spec, manifest["metadata"]["name"], found)

    async def _replace(
        self, spec: KindSpec, stored: Stored, manifest: Manifest, options: WriteOptions
    ) -> bytes:
        if options.dry_run:
            return orjson.dumps(manifest)
        change = Change.replace(spec.resource.qualified, stored.key, stored.revision, _encoder(manifest))
        return await self._commit(change)

    async def _remove(
        self, spec: KindSpec, stored: Stored, manifest: Manifest, options: WriteOptions
    ) -> bytes:
        if options.dry_run:
            return orjson.dumps(manifest)
        change = Change.delete(spec.resource.qualified, stored.key, stored.revision, _encoder(manifest))
        return await self._commit(change)

    async def _commit(self, change: Change) -> bytes:
        try:
            return (await self._store.write(change)).value
        except (errors.Conflict, errors.NotFound) as error:
            raise _Raced from error


def _is_deleting(stored: Stored | None) -> bool:
    return stored is not None and "deletionTimestamp" in orjson.loads(stored.value)["metadata"]


def _encoder(manifest: Manifest) -> Callable[[int], bytes]:
    def encode(revision: int) -> bytes:
        manifest["metadata"]["resourceVersion"] = str(revision)
        # orjson's result keeps a buffer of several KiB: the copy, which lives long, has its true size.
        return bytes(memoryview(orjson.dumps(manifest)))

    return encode
