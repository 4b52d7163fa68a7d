import json
from collections.abc import Iterator
from typing import Any

import pytest

from gpuyard.local.http.openapi import OpenApi, component_name
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.kinds.served import yard_kinds

_DOCUMENTS = (
    *("api/v1", "apis/apps/v1", "apis/autoscaling/v2", "apis/batch/v1", "apis/coordination.k8s.io/v1"),
    *("apis/discovery.k8s.io/v1", "apis/policy/v1", "apis/scheduling.k8s.io/v1", "apis/storage.k8s.io/v1"),
)
OPENAPI = OpenApi(yard_kinds())


def _read(path: str) -> Any:
    body = OPENAPI.document(path)
    assert body is not None
    return json.loads(body)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].removeprefix("#/components/schemas/")
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_the_index_leads_to_every_document() -> None:
    paths = _read("/openapi/v3")["paths"]
    assert tuple(paths) == _DOCUMENTS
    for name, entry in paths.items():
        url, _, query = entry["serverRelativeURL"].partition("?hash=")
        assert url == f"/openapi/v3/{name}"
        assert len(query) == 32
        assert OPENAPI.document(url) is not None


def test_nothing_elsewhere() -> None:
    assert OPENAPI.document("/openapi/v3/apis/autoscaling/v1") is None
    assert OPENAPI.document("/openapi/v2") is None


@pytest.mark.parametrize("name", _DOCUMENTS)
def test_every_reference_of_a_document_is_in_it(name: str) -> None:
    document = _read(f"/openapi/v3/{name}")
    assert set(_references(document)) <= document["components"]["schemas"].keys()


@pytest.mark.parametrize("spec", [*yard_kinds()], ids=lambda spec: spec.resource.kind)
def test_what_kubectl_looks_for(spec: KindSpec) -> None:
    group, version, kind = spec.gvk
    gvk = {"group": group, "version": version, "kind": kind}
    resource = spec.resource
    document = _read("/openapi/v3" + resource.path().rsplit("/", 1)[0])
    schemas = document["components"]["schemas"]
    (component,) = [s for s in schemas.values() if gvk in s.get("x-kubernetes-group-version-kind", ())]
    assert "metadata" in component["properties"]
    scope = "{namespace}" if resource.namespaced else None
    writes = [
        document["paths"][resource.path(scope)]["post"],
        document["paths"][resource.path(scope, "{name}")]["put"],
        document["paths"][resource.path(scope, "{name}")]["patch"],
    ]
    for operation in writes:
        assert operation["x-kubernetes-group-version-kind"] == gvk
        assert "fieldValidation" in [p["name"] for p in operation["parameters"] if p["in"] == "query"]


def test_types_lists_and_patch_keys() -> None:
    schemas = _read("/openapi/v3/api/v1")["components"]["schemas"]
    spec = schemas[component_name("core.v1.PodSpec")]
    assert spec["required"] == ["containers"]
    containers = spec["properties"]["containers"]
    assert (containers["x-kubernetes-patch-strategy"], containers["x-kubernetes-patch-merge-key"]) == (
        "merge",
        "name",
    )
    assert containers["items"] == {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}
    assert spec["properties"]["volumes"]["x-kubernetes-patch-strategy"] == "merge,retainKeys"
    assert "x-kubernetes-patch-strategy" not in spec["properties"]["tolerations"]
    assert spec["properties"]["terminationGracePeriodSeconds"]["format"] == "int64"
    metadata = schemas[component_name("meta.v1.ObjectMeta")]["properties"]
    assert metadata["finalizers"]["x-kubernetes-patch-strategy"] == "merge"
    assert "x-kubernetes-patch-merge-key" not in metadata["finalizers"]
    limits = schemas[component_name("core.v1.ResourceRequirements")]["properties"]["limits"]
    assert limits["additionalProperties"]["$ref"].endswith("io.k8s.apimachinery.pkg.api.resource.Quantity")
    assert limits["description"].startswith("Limits describes the maximum amount of compute resources")


def test_documents_are_built_once() -> None:
    assert OPENAPI.document("/openapi/v3/api/v1") is OPENAPI.document("/openapi/v3/api/v1")
