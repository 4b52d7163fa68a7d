"""The one place that writes objects: create, change and delete, each object's writes one after another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from weakref import WeakValueDictionary

import orjson

from gpuyard import errors
from gpuyard.kube.objects import NAMESPACES, PRIORITY_CLASSES, Manifest, ObjectKey
from gpuyard.local.api import metadata as meta
from gpuyard.local.api.deletion import DeleteOptions, is_released, mark_deleted
from gpuyard.local.api.kinds import KindSpec, schema
from gpuyard.local.api.kinds.fields import invalid_object
from gpuyard.local.api.kinds.kind import CreateContext
from gpuyard.local.store import Change, Store, Stored

_GENERATE_ATTEMPTS = 8

FieldValidation = Literal["Ignore", "Warn", "Strict"]


@dataclass(frozen=True)
class WriteOptions:
    """Query parameters of a write.

    Attributes:
        dry_run: everything but the write.
        field_validation: what unknown fields get: nothing, a warning, or a refusal.
    """

    dry_run: bool = False
    field_validation: FieldValidation = "Strict"


#: A write that counts, strict about unknown fields.
DEFAULT = WriteOptions()


@dataclass(frozen=True)
class Answer:
    """An object as it is after a write, decoded and encoded; `gone` when the write removed it."""

    manifest: Manifest
    value: bytes
    warnings: tuple[str, ...] = ()
    gone: bool = False


class Writer:
    """Serialises the writes to each object, so that none of ours ever loses a compare-and-swap."""

    def __init__(self, store: Store, clock: Callable[[], datetime], rng: random.Random) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._locks: WeakValueDictionary[tuple[str, ObjectKey], asyncio.Lock] = WeakValueDictionary()
        #: Namespaces whose deletion is on its way to disk: creates that come later must not overtake it.
        self._terminating: set[str] = set()
        self._context = CreateContext(self._priority_class, self._default_priority_class)

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
    ) -> Answer:
        """Completes, checks and stores a new object; `given` isn't changed.

        `checked=False` is for the server's own objects, which rules for users would refuse.

        Raises:
            BadRequest, Invalid, NotFound, Forbidden, AlreadyExists: as Kubernetes would.
        """
        manifest, warnings = _decode(spec, given, options)
        meta.check_names(spec, manifest, ObjectKey(namespace, ""))
        self._require_namespace(spec, namespace, manifest["metadata"].get("name", ""))
        metadata = manifest["metadata"]
        prefix = "" if metadata.get("name") else metadata.get("generateName", "")
        spec.default(manifest)
        meta.complete_new(spec, manifest, self._clock(), self._rng)
        spec.prepare_create(manifest, self._context)
        # Once more, as Kubernetes does with whatever it reads back: a Job takes over its template's labels.
        spec.default(manifest)
        if checked:
            _validate(spec, manifest, None)
        for attempt in range(_GENERATE_ATTEMPTS):
            try:
                return Answer(manifest, await self._insert(spec, manifest, options), warnings)
            except errors.AlreadyExists as error:
                if not prefix or attempt == _GENERATE_ATTEMPTS - 1:
                    raise meta.already_exists(spec, metadata["name"]) from error
                metadata["name"] = meta.generated_name(prefix, self._rng)
        raise AssertionError("the last attempt returns or raises")

    async def change(
        self,
        spec: KindSpec,
        key: ObjectKey,
        change: Callable[[Manifest], Mapping[str, Any]],
        *,
        subresource: str = "",
        options: WriteOptions = DEFAULT,
        checked: bool = True,
    ) -> Answer:
        """Stores what `change` makes of the object; it gets a copy that it may keep and change.

        Args:
            spec: the kind.
            key: names the object.
            change: called once, with nothing else writing the object meanwhile.
            subresource: "" for all but the status, "status" for nothing but the status.
            options: of the request.
            checked: False for a change that the server itself makes and that needs no rules.

        Raises:
            NotFound: it isn't there.
            Conflict, BadRequest, Invalid: what `change` made breaks a precondition or a rule.
        """
        async with self._lock(spec, key):
            stored = self.stored(spec, key)
            old = orjson.loads(stored.value)
            given = change(orjson.loads(stored.value))
            warnings: tuple[str, ...] = ()
            if checked:
                new, warnings = _checked(spec, key, given, old, subresource, options)
            else:
                new = dict(given)
            if new == old:
                return Answer(old, stored.value, warnings)
            if is_released(new):
                return Answer(new, await self._remove(spec, stored, new, options), warnings, gone=True)
            return Answer(new, await self._replace(spec, stored, new, options), warnings)

    async def delete(self, spec: KindSpec, key: ObjectKey, options: DeleteOptions) -> Answer:
        """Removes the object, or marks it for those who hold it.

        Raises:
            NotFound: it isn't there.
            Conflict: a precondition fails.
        """
        async with self._lock(spec, key):
            stored = self.stored(spec, key)
            old = orjson.loads(stored.value)
            meta.check_preconditions(spec, old, options.uid, options.resource_version)
            marked = mark_deleted(spec, old, options, self._clock())
            write = WriteOptions(dry_run=options.dry_run)
            if marked is None:
                return Answer(old, await self._remove(spec, stored, old, write), gone=True)
            if marked == old:
                return Answer(old, stored.value)
            if spec.resource != NAMESPACES or options.dry_run:
                return Answer(marked, await self._replace(spec, stored, marked, write))
            self._terminating.add(key.name)
            try:
                return Answer(marked, await self._replace(spec, stored, marked, write))
            finally:
                self._terminating.discard(key.name)

    def _lock(self, spec: KindSpec, key: ObjectKey) -> asyncio.Lock:
        return self._locks.setdefault((spec.resource.qualified, key), asyncio.Lock())

    def _require_namespace(self, spec: KindSpec, namespace: str, name: str) -> None:
        if not spec.resource.namespaced:
            return
        found = self._store.get(NAMESPACES.qualified, ObjectKey("", namespace))
        if found is None:
            named = {"name": namespace, "kind": NAMESPACES.plural}
            raise errors.NotFound(f'namespaces "{namespace}" not found', details=named)
        if namespace in self._terminating or b'"deletionTimestamp"' in found.value:
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
        defaults = [c for c in (orjson.loads(item.value) for item in items) if c.get("globalDefault")]
        return min(defaults, key=lambda c: int(c["value"]), default=None)

    async def _insert(self, spec: KindSpec, manifest: Manifest, options: WriteOptions) -> bytes:
        metadata = manifest["metadata"]
        key = ObjectKey(metadata.get("namespace", ""), metadata["name"])
        resource = spec.resource.qualified
        if options.dry_run:
            if self._store.get(resource, key) is not None:
                raise meta.already_exists(spec, key.name)
            return orjson.dumps(manifest)
        stored = await self._store.write(Change.create(resource, key, _encoder(manifest)))
        return stored.value

    async def _replace(
        self, spec: KindSpec, stored: Stored, manifest: Manifest, options: WriteOptions
    ) -> bytes:
        if options.dry_run:
            return orjson.dumps(manifest)
        change = Change.replace(spec.resource.qualified, stored.key, stored.revision, _encoder(manifest))
        return (await self._store.write(change)).value

    async def _remove(
        self, spec: KindSpec, stored: Stored, manifest: Manifest, options: WriteOptions
    ) -> bytes:
        if options.dry_run:
            return orjson.dumps(manifest)
        change = Change.delete(spec.resource.qualified, stored.key, stored.revision, _encoder(manifest))
        return (await self._store.write(change)).value


def _encoder(manifest: Manifest) -> Callable[[int], bytes]:
    def encode(revision: int) -> bytes:
        manifest["metadata"]["resourceVersion"] = str(revision)
        # orjson's result keeps a buffer of several KiB: the copy, which lives long, has its true size.
        return bytes(memoryview(orjson.dumps(manifest)))

    return encode


def _checked(
    spec: KindSpec,
    key: ObjectKey,
    given: Mapping[str, Any],
    old: Manifest,
    subresource: str,
    options: WriteOptions,
) -> tuple[Manifest, tuple[str, ...]]:
    """What may be stored of `given`, and the warnings about it."""
    new, warnings = _decode(spec, given, options)
    meta.check_names(spec, new, key)
    meta.keep_server_owned(spec, new, old)
    if subresource == "status":
        new = _with_field(old, "status", new)
    elif spec.has_status:
        new = _with_field(new, "status", old)
    spec.default(new)
    if not subresource:
        spec.prepare_update(new, old)
    _validate(spec, new, old)
    if spec.has_generation and new.get("spec") != old.get("spec"):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return new, warnings


def _with_field(manifest: Manifest, field: str, source: Manifest) -> Manifest:
    """`manifest` with one field as it is in `source`."""
    result = {name: value for name, value in manifest.items() if name != field}
    if field in source:
        result[field] = source[field]
    # A copy, since defaulting works in place and `old` must stay comparable.
    return {**result, "metadata": dict(result["metadata"])}


def _decode(
    spec: KindSpec, given: Mapping[str, Any], options: WriteOptions
) -> tuple[Manifest, tuple[str, ...]]:
    """A copy of the known fields, and warnings about the others."""
    meta.check_kind(spec, given)
    manifest, unknown = schema.decode(schema.type_name(spec.resource), given)
    if unknown and options.field_validation == "Strict":
        raise schema.strict_error(spec.resource, unknown)
    manifest["apiVersion"], manifest["kind"] = spec.resource.api_version, spec.resource.kind
    manifest.setdefault("metadata", {})
    if options.field_validation == "Ignore":
        return manifest, ()
    return manifest, tuple(f'unknown field "{path}"' for path in unknown)


def _validate(spec: KindSpec, manifest: Manifest, old: Manifest | None) -> None:
    found = meta.validate(spec, manifest, old) + spec.validate(manifest, old)
    if found:
        raise invalid_object(spec, manifest["metadata"].get("name", ""), found)
