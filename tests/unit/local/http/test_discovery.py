import json
from typing import Any

import pytest

from gpuyard.local.http.discovery import Discovery
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.kinds.served import yard_kinds

DISCOVERY = Discovery(yard_kinds())


def _read(path: str) -> Any:
    body = DISCOVERY.document(path)
    assert body is not None
    return json.loads(body)


def test_the_core_group_and_the_others() -> None:
    assert _read("/api") == {"kind": "APIVersions", "versions": ["v1"]}
    groups = _read("/apis")
    assert groups["kind"] == "APIGroupList"
    names = [g["name"] for g in groups["groups"]]
    assert names == [
        *("apps", "autoscaling", "batch", "coordination.k8s.io", "discovery.k8s.io", "policy"),
        *("scheduling.k8s.io", "storage.k8s.io"),
    ]
    batch = {"groupVersion": "batch/v1", "version": "v1"}
    assert _read("/apis/batch") == {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": "batch",
        "versions": [batch],
        "preferredVersion": batch,
    }


def test_resources_of_a_version_with_their_subresources() -> None:
    found = {r["name"]: r for r in _read("/api/v1")["resources"]}
    assert found["pods"] == {
        "name": "pods",
        "singularName": "pod",
        "namespaced": True,
        "kind": "Pod",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["po"],
        "categories": ["all"],
    }
    assert found["pods/eviction"] == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "kind": "Eviction",
        "verbs": ["create"],
        "group": "policy",
        "version": "v1",
    }
    assert found["pods/log"]["verbs"] == ["get"]
    assert found["nodes"]["namespaced"] is False
    assert "group" not in found["nodes/status"]
    assert "deletecollection" not in found["namespaces"]["verbs"]


def test_a_slash_at_the_end_makes_no_difference() -> None:
    assert DISCOVERY.document("/apis/batch/v1/") == DISCOVERY.document("/apis/batch/v1") is not None


@pytest.mark.parametrize("path", ["/apis/autoscaling/v1", "/apis/batch/v2", "/api/v2", "/version", ""])
def test_nothing_elsewhere(path: str) -> None:
    assert DISCOVERY.document(path) is None
    assert DISCOVERY.aggregated(path) is None


@pytest.mark.parametrize("spec", [*yard_kinds()], ids=lambda spec: spec.resource.plural)
def test_both_forms_say_the_same_of_each_kind(spec: KindSpec) -> None:
    resource = spec.resource
    body = DISCOVERY.aggregated("/apis" if resource.group else "/api")
    assert body is not None
    document = json.loads(body)
    assert (document["kind"], document["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    (group,) = [g for g in document["items"] if g["metadata"].get("name", "") == resource.group]
    (version,) = [v for v in group["versions"] if v["version"] == resource.version]
    (entry,) = [r for r in version["resources"] if r["resource"] == resource.plural]
    root = f"/apis/{resource.group}" if resource.group else "/api"
    old = {r["name"]: r for r in _read(f"{root}/{resource.version}")["resources"]}
    plain = old[resource.plural]
    # Group and version are named only where they are others than the resource's own.
    assert entry["responseKind"] == {"group": "", "version": "", "kind": resource.kind}
    assert (entry["scope"] == "Namespaced") is plain["namespaced"]
    assert entry["singularResource"] == plain["singularName"]
    for field in ("verbs", "shortNames", "categories"):
        assert entry.get(field) == plain.get(field)
    subresources = {f"{resource.plural}/{s['subresource']}": s for s in entry.get("subresources", ())}
    assert subresources.keys() == {name for name in old if name.startswith(f"{resource.plural}/")}
    for name, sub in subresources.items():
        assert sub["verbs"] == old[name]["verbs"]
        kind = {field: old[name].get(field, "") for field in ("group", "version", "kind")}
        assert sub["responseKind"] == kind
