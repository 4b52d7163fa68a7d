"""What the API knows of one kind, in one declaration.

The order in which the verbs use it is Kubernetes' own:

    create: schema.decode → default → metadata (name, uid, creationTimestamp) → prepare_create → validate
        → allocate
    update: schema.decode → default → prepare_update → validate(new, old)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import Manifest, Resource
from gpuyard.kube.selectors import field_text

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class FieldError:
    """One broken rule.

    Attributes:
        path: field path as Kubernetes writes it: `spec.containers[0].image`.
        type: cause reason: FieldValueInvalid, FieldValueRequired, FieldValueNotSupported, …
        message: the rule in Kubernetes' words: `Required value`, `Invalid value: "x": must be …`.
    """

    path: str
    type: str
    message: str


@dataclass(frozen=True)
class Column:
    """One column of a Table; `priority` above 0 shows only with `-o wide`."""

    name: str
    cell: Callable[[Manifest, datetime], Any]
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


@dataclass(frozen=True)
class Subresource:
    """A path below an object, all of it: HTTP, discovery and OpenAPI learn of it from here.

    Attributes:
        name: as in the path: `status`, `binding`, `log`.
        body: the kind of its body.
        verbs: get, update, patch or create.
        view: what is read, patched and written in the object's place, where that is of another kind.
        merge: for update and patch: what is stored, from the object and what was written in its place.
        apply: for create: what the body makes of the object.
        evicts: for create that deletes the object, after `apply`, if its disruption budget allows that: the
            `DeleteOptions` in the body.
        streams: a get opens a stream of whoever runs the containers, instead of reading the object.
        upgrades: a request becomes a WebSocket to whoever runs the containers.
    """

    name: str
    body: Resource
    verbs: tuple[str, ...]
    view: Callable[[Manifest], Manifest] | None = None
    merge: Callable[[Manifest, Manifest], Manifest] | None = None
    apply: Callable[[KindSpec, Manifest, Manifest, datetime], Manifest] | None = None
    evicts: Callable[[Manifest], Manifest] | None = None
    streams: bool = False
    upgrades: bool = False


@dataclass(frozen=True)
class ServedApi:
    """What a review may ask of the server: the resources, and the paths of documents (`/version`)."""

    kinds: Iterable[KindSpec]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class CreateContext:
    """What a kind may ask the rest of the API while an object of it is being created.

    Attributes:
        default_storage_class: name of the class of claims that name none; empty where there is none.
        no_images: why this yard can't run images, empty when it can.
    """

    priority_class: Callable[[str], Manifest | None] = lambda _name: None
    default_priority_class: Callable[[], Manifest | None] = lambda: None
    default_storage_class: Callable[[], str] = lambda: ""
    no_images: Callable[[], str] = lambda: ""


def _leave(*_: Any) -> None:
    """No change."""


def _accept(_manifest: Manifest, _old: Manifest | None) -> list[FieldError]:
    return []


@dataclass(frozen=True)
class KindSpec:
    """One kind: its names, and the rules that its objects follow.

    Attributes:
        resource: group, version, kind, plural, scope.
        short_names: what kubectl users type: `po`.
        categories: `all` makes `kubectl get all` list it.
        default: fills absent fields in place, as Kubernetes' defaults.go does.
        validate: broken rules of the object, against the one that it replaces when that isn't None.
        prepare_create: completes a new object in place after defaults and metadata (uid included);
            raises `errors.ApiError` when admission refuses it.
        prepare_update: keeps in place what an update of the main resource may not change silently.
        allocate: gives a new object in place what no other of its kind may have, such as an address, or says
            which rules keep it from that; called with all others, in the moment in which it is written.
        columns: cells of a Table after Kubernetes' own.
        has_generation: `metadata.generation` counts changes of the spec.
        graceful: a delete with a grace period only marks it; the kubelet deletes it for good.
        selectable_fields: for field selectors, beside metadata.name and metadata.namespace.
        subresources: paths below an object. With a `status` among them, writes to the main resource leave
            the status as it is.
        needs_version: an update must say which resourceVersion it replaces.
        field_text: reads a field that selectors name.
        review: for a kind that is a question: a create stores nothing, and is answered with this status.
        name_is_subdomain: names may contain dots (RFC 1123 subdomain), else they are labels.
    """

    resource: Resource
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    default: Callable[[Manifest], None] = _leave
    validate: Callable[[Manifest, Manifest | None], list[FieldError]] = _accept
    prepare_create: Callable[[Manifest, CreateContext], None] = _leave
    prepare_update: Callable[[Manifest, Manifest], None] = _leave
    allocate: Callable[[Manifest, Iterable[Manifest], random.Random], Iterable[FieldError]] | None = None
    columns: tuple[Column, ...] = ()
    has_generation: bool = False
    graceful: bool = False
    selectable_fields: frozenset[str] = frozenset()
    subresources: tuple[Subresource, ...] = ()
    name_is_subdomain: bool = True
    needs_version: bool = False
    field_text: Callable[[Mapping[str, Any], str], str] = field_text
    verbs: tuple[str, ...] = VERBS
    review: Callable[[Manifest, ServedApi], Manifest] | None = None

    @property
    def gvk(self) -> tuple[str, str, str]:
        """Group, version and kind."""
        return self.resource.group, self.resource.version, self.resource.kind

    @property
    def has_status(self) -> bool:
        """Whether the status is a subresource."""
        return self.subresource("status") is not None

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of this name, if it is served."""
        return next((sub for sub in self.subresources if sub.name == name), None)

    def selects(self, path: str) -> bool:
        """Whether field selectors may name this field."""
        if path == "metadata.namespace":
            return self.resource.namespaced
        return path == "metadata.name" or path in self.selectable_fields

    def unknown_field(self, path: str) -> str:
        """What a client is told that selects by another field; Kubernetes words it in three ways."""
        if self.resource.group == "batch":
            return f'field label "{path}" not supported for {self.resource.kind}'
        if not self.selectable_fields:
            known = '"metadata.name", "metadata.namespace"'
            return f'"{path}" is not a known field selector: only {known}'
        return f"field label not supported: {path}"


def status_subresource(resource: Resource) -> Subresource:
    """The `status` path of a kind."""
    return Subresource("status", resource, ("get", "patch", "update"), merge=_with_status_and_metadata)


def with_field(manifest: Manifest, field: str, source: Manifest) -> Manifest:
    """`manifest` with one field as it is in `source`."""
    result = {name: value for name, value in manifest.items() if name != field}
    if field in source:
        result[field] = source[field]
    # A copy, since defaulting works in place and what is stored must stay comparable.
    return {**result, "metadata": dict(result["metadata"])}


def _with_status_and_metadata(old: Manifest, new: Manifest) -> Manifest:
    """What a write of the status changes: also labels, annotations and finalizers, but not the owners."""
    metadata = {**new["metadata"], "ownerReferences": old["metadata"].get("ownerReferences")}
    if not metadata["ownerReferences"]:
        del metadata["ownerReferences"]
    return {**with_field(old, "status", new), "metadata": metadata}


def details_of(spec: KindSpec, name: str, errors: list[FieldError]) -> Mapping[str, Any]:
    """`Status.details` for an object with these broken rules."""
    causes = [{"reason": e.type, "message": e.message, "field": e.path} for e in errors]
    details: dict[str, Any] = {"kind": spec.resource.kind, "causes": causes}
    if name:
        details["name"] = name
    if spec.resource.group:
        details["group"] = spec.resource.group
    return details
