"""Which groups, versions and resources are served, in the old form and in the aggregated one.

Sources: apimachinery `meta/v1` (APIVersions, APIGroupList, APIResourceList), `apidiscovery.k8s.io/v2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import orjson

from gpuyard.local.objects.kinds.kind import KindSpec, Subresource
from gpuyard.local.objects.kinds.registry import Kinds

#: Media type of the aggregated form, as in Accept and Content-Type.
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Discovery:
    """The documents of one registry, written on first use."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        #: Versions by group, in the order of declaration.
        self._groups: dict[str, list[str]] = {}
        for spec in kinds:
            versions = self._groups.setdefault(spec.resource.group, [])
            if spec.resource.version not in versions:
                versions.append(spec.resource.version)

    def document(self, path: str) -> bytes | None:
        """What is at `/api`, `/apis`, `/api/v1`, `/apis/GROUP` or `/apis/GROUP/VERSION`; None elsewhere."""
        return self._documents.get(path.rstrip("/"))

    def paths(self) -> Iterable[str]:
        """Where there is a document."""
        return self._documents.keys()

    def aggregated(self, path: str) -> bytes | None:
        """The aggregated document at `/api` (the core group) or `/apis` (all others), None elsewhere."""
        return self._aggregated.get(path.rstrip("/"))

    def _of(self, group: str, version: str) -> list[KindSpec]:
        return [s for s in self._kinds if (s.resource.group, s.resource.version) == (group, version)]

    @cached_property
    def _aggregated(self) -> Mapping[str, bytes]:
        head = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}}
        groups = {"/api": [""], "/apis": [group for group in self._groups if group]}
        return {
            path: orjson.dumps({**head, "items": [self._group_discovery(group) for group in names]})
            for path, names in groups.items()
        }

    @cached_property
    def _documents(self) -> Mapping[str, bytes]:
        documents: dict[str, dict[str, Any]] = {}
        named = {group: versions for group, versions in self._groups.items() if group}
        groups = [_api_group(group, versions) for group, versions in named.items()]
        documents["/api"] = {"kind": "APIVersions", "versions": list(self._groups[""])}
        documents["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        for group, versions in self._groups.items():
            root = f"/apis/{group}" if group else "/api"
            if group:
                documents[root] = {"kind": "APIGroup", "apiVersion": "v1", **_api_group(group, versions)}
            for version in versions:
                documents[f"{root}/{version}"] = {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": f"{group}/{version}" if group else version,
                    "resources": list(_api_resources(self._of(group, version))),
                }
        return {path: orjson.dumps(document) for path, document in documents.items()}

    def _group_discovery(self, group: str) -> dict[str, Any]:
        return {
            "metadata": {"name": group} if group else {},
            "versions": [
                {
                    "version": version,
                    "freshness": "Current",
                    "resources": [_resource_discovery(spec) for spec in self._of(group, version)],
                }
                for version in self._groups[group]
            ],
        }


def _api_group(group: str, versions: list[str]) -> dict[str, Any]:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def _api_resources(kinds: Iterable[KindSpec]) -> Iterable[dict[str, Any]]:
    for spec in kinds:
        resource = spec.resource
        entry: dict[str, Any] = {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(spec.verbs),
        }
        if spec.short_names:
            entry["shortNames"] = list(spec.short_names)
        if spec.categories:
            entry["categories"] = list(spec.categories)
        yield entry
        for sub in spec.subresources:
            entry = {
                "name": f"{resource.plural}/{sub.name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": sub.body.kind,
                "verbs": list(sub.verbs),
            }
            if sub.body.group != resource.group:
                entry |= {"group": sub.body.group, "version": sub.body.version}
            yield entry


def _resource_discovery(spec: KindSpec) -> dict[str, Any]:
    resource = spec.resource
    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": _response_kind("", "", resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.kind.lower(),
        "verbs": list(spec.verbs),
    }
    if spec.short_names:
        entry["shortNames"] = list(spec.short_names)
    if spec.categories:
        entry["categories"] = list(spec.categories)
    if spec.subresources:
        entry["subresources"] = [_subresource_discovery(sub, resource.group) for sub in spec.subresources]
    return entry


def _subresource_discovery(sub: Subresource, group: str) -> dict[str, Any]:
    # Named only where it is another group than the resource's.
    body = sub.body
    version = body.version if body.group != group else ""
    return {
        "subresource": sub.name,
        "responseKind": _response_kind(body.group if version else "", version, body.kind),
        "verbs": list(sub.verbs),
    }


def _response_kind(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}
