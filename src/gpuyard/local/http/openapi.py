"""OpenAPI v3 of what is served, enough for `kubectl create`, `apply` and `explain`.

Built from kinds/schema.json and kinds/descriptions.json on first use, then kept as bytes.
Source: kube-openapi's documents as kube-apiserver serves them under /openapi/v3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib import resources
from typing import Any

import orjson

from gpuyard import __version__
from gpuyard.kube.objects import Resource
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.kinds.registry import Kinds
from gpuyard.local.objects.kinds.schema import type_name, types

_ROOT = "/openapi/v3"
_MACHINERY = "io.k8s.apimachinery.pkg"
_COMPONENTS = "#/components/schemas/"
_SCALARS: dict[str, dict[str, Any]] = {
    "s": {"type": "string"},
    "b": {"type": "boolean"},
    "i": {"type": "integer", "format": "int32"},
    "l": {"type": "integer", "format": "int64"},
    "d": {"type": "string", "format": "byte"},
    "j": {"type": "object"},
}
#: Scalars that have a name of their own, so that `explain` shows it.
_NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "q": (f"{_MACHINERY}.api.resource.Quantity", {"oneOf": [{"type": "string"}, {"type": "number"}]}),
    "t": (f"{_MACHINERY}.apis.meta.v1.Time", {"type": "string", "format": "date-time"}),
    "u": (f"{_MACHINERY}.apis.meta.v1.MicroTime", {"type": "string", "format": "date-time"}),
    "x": (
        f"{_MACHINERY}.util.intstr.IntOrString",
        {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    ),
}
_QUERY = {
    "fieldValidation": ("string", "What unknown fields get: Ignore, Warn or Strict."),
    "dryRun": ("string", "All: everything but the write is done."),
    "fieldManager": ("string", "Name of the actor that makes the change."),
    "labelSelector": ("string", "Restricts the objects to those whose labels match."),
    "fieldSelector": ("string", "Restricts the objects to those whose fields match."),
    "limit": ("integer", "How many objects an answer has at most."),
    "continue": ("string", "Where the previous answer stopped."),
    "watch": ("boolean", "Sends changes instead of a list."),
    "resourceVersion": ("string", "The version to read or watch from."),
    "gracePeriodSeconds": ("integer", "How long the object may take to end."),
    "propagationPolicy": ("string", "What happens to dependents: Orphan, Background or Foreground."),
}
_LIST = ("labelSelector", "fieldSelector", "limit", "continue", "watch", "resourceVersion")
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "propagationPolicy")
_METHODS = {"get": "get", "update": "put", "patch": "patch"}
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


class OpenApi:
    """The documents of one registry."""

    def __init__(self, kinds: Kinds) -> None:
        self._by_group: dict[str, list[KindSpec]] = {}
        for spec in kinds:
            self._by_group.setdefault(_group_path(spec.resource), []).append(spec)
        self._documents: dict[str, bytes] = {}

    def paths(self) -> Iterable[str]:
        """Where there is the document of a group and version."""
        return (f"{_ROOT}/{name}" for name in self._by_group)

    def document(self, path: str) -> bytes | None:
        """The index at `/openapi/v3`, or the document of one group and version below it; None elsewhere."""
        path = path.rstrip("/")
        if path == _ROOT:
            return self._index
        name = path.removeprefix(f"{_ROOT}/")
        return self._document(name) if name in self._by_group else None

    @cached_property
    def _index(self) -> bytes:
        return orjson.dumps(
            {"paths": {name: {"serverRelativeURL": self._url(name)} for name in self._by_group}}
        )

    def _url(self, name: str) -> str:
        return f"{_ROOT}/{name}?hash={hashlib.sha256(self._document(name)).hexdigest()[:32].upper()}"

    def _document(self, name: str) -> bytes:
        if name not in self._documents:
            kinds = self._by_group[name]
            self._documents[name] = orjson.dumps(
                {
                    "openapi": "3.0.0",
                    "info": {"title": "gpuyard", "version": __version__},
                    "paths": {path: item for spec in kinds for path, item in _paths(spec)},
                    "components": {"schemas": _components(kinds)},
                }
            )
        return self._documents[name]


def _group_path(resource: Resource) -> str:
    return resource.path().strip("/").rsplit("/", 1)[0]


def _paths(spec: KindSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    resource, body = spec.resource, component_name(type_name(spec.resource))
    scope = "{namespace}" if resource.namespaced else None
    create = _operation(spec, "post", _WRITE, body=body, answer=body)
    if spec.review is not None:
        yield resource.path(), {"post": create}
        return
    listing = _operation(spec, "list", _LIST, answer=f"{body}List")
    collection = {"get": listing, "post": create}
    if "deletecollection" in spec.verbs:
        collection["delete"] = _operation(spec, "deletecollection", (*_LIST, *_DELETE))
    yield resource.path(scope), {"parameters": _path_parameters(resource, name=False), **collection}
    if scope:
        yield resource.path(), {"get": listing}
    item = {
        "get": _operation(spec, "get", (), answer=body),
        "put": _operation(spec, "put", _WRITE, body=body, answer=body),
        "patch": _operation(spec, "patch", _WRITE, body="", answer=body),
        "delete": _operation(spec, "delete", _DELETE),
    }
    yield resource.path(scope, "{name}"), {"parameters": _path_parameters(resource, name=True), **item}
    for part in spec.subresources:
        if part.body == resource and not part.streams:
            below = {_METHODS[verb]: item[_METHODS[verb]] for verb in part.verbs}
            path = resource.path(scope, "{name}", part.name)
            yield path, {"parameters": _path_parameters(resource, name=True), **below}


def _operation(
    spec: KindSpec, action: str, query: tuple[str, ...], *, body: str | None = None, answer: str = ""
) -> dict[str, Any]:
    group, version, kind = spec.gvk
    content = {"application/json": {"schema": {"$ref": _COMPONENTS + answer}}} if answer else {}
    operation: dict[str, Any] = {
        "parameters": [
            {"name": name, "in": "query", "description": _QUERY[name][1], "schema": {"type": _QUERY[name][0]}}
            for name in query
        ],
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    }
    if body:
        operation["requestBody"] = {"content": {"application/json": {"schema": {"$ref": _COMPONENTS + body}}}}
    elif body == "":
        operation["requestBody"] = {"content": {media: {"schema": {}} for media in _PATCHES}}
    return operation


def _path_parameters(resource: Resource, *, name: bool) -> list[dict[str, Any]]:
    names = (["namespace"] if resource.namespaced else []) + (["name"] if name else [])
    return [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]


def _components(kinds: list[KindSpec]) -> dict[str, Any]:
    """The kinds, their lists, and every type below them."""
    texts = orjson.loads(
        resources.files("gpuyard.local.objects.kinds").joinpath("descriptions.json").read_bytes()
    )
    found: dict[str, Any] = dict(_NAMED.values())
    waiting = [type_name(spec.resource) for spec in kinds] + ["meta.v1.ListMeta"]
    while waiting:
        name = waiting.pop()
        if component_name(name) in found:
            continue
        found[component_name(name)] = _component(name, texts.get(name, {}))
        waiting += [kind.lstrip("[{@") for kind in types()[name].fields.values() if "@" in kind]
    for spec in kinds:
        group, version, kind = spec.gvk
        name = component_name(type_name(spec.resource))
        found[name]["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": kind}]
        found[f"{name}List"] = _list_component(spec, name)
    return dict(sorted(found.items()))


def _component(name: str, texts: dict[str, str]) -> dict[str, Any]:
    info = types()[name]
    properties = {}
    for field, kind in info.fields.items():
        schema = _schema(kind)
        if "$ref" in schema:
            # A reference has no siblings, so a description needs a wrapper.
            schema = {"allOf": [schema]}
        if field in texts:
            schema = {"description": texts[field], **schema}
        strategy = (info.patch or {}).get(field)
        if strategy is not None:
            key, _, extra = strategy.partition(",")
            # An object has nothing to merge by a key: it may only have keys that it retains.
            words = [extra] if kind.startswith("@") else ["merge", *([extra] if extra else [])]
            schema["x-kubernetes-patch-strategy"] = ",".join(words)
            if key:
                schema["x-kubernetes-patch-merge-key"] = key
        properties[field] = schema
    component: dict[str, Any] = {"description": texts.get("", ""), "type": "object", "properties": properties}
    if info.required:
        component["required"] = list(info.required)
    return component


def _list_component(spec: KindSpec, item: str) -> dict[str, Any]:
    group, version, kind = spec.gvk
    return {
        "description": f"{kind}List is a list of {kind} objects.",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": _COMPONENTS + item}},
            "metadata": {"allOf": [{"$ref": _COMPONENTS + component_name("meta.v1.ListMeta")}]},
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": f"{kind}List"}],
    }


def _schema(kind: str) -> dict[str, Any]:
    match kind[0]:
        case "[":
            return {"type": "array", "items": _schema(kind[1:])}
        case "{":
            return {"type": "object", "additionalProperties": _schema(kind[1:])}
        case "@":
            return {"$ref": _COMPONENTS + component_name(kind[1:])}
    return {"$ref": _COMPONENTS + _NAMED[kind][0]} if kind in _NAMED else _SCALARS[kind]


def component_name(type_: str) -> str:
    """`core.v1.Pod` → `io.k8s.api.core.v1.Pod`."""
    prefix = f"{_MACHINERY}.apis" if type_.startswith("meta.") else "io.k8s.api"
    return f"{prefix}.{type_}"
