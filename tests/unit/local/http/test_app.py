"""HTTP over the unix socket: documents, verbs, refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from gpuyard import __version__
from gpuyard.local.objects.verbs import ObjectApi
from tests.unit.local.conftest import MemoryLogs, Served

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


def config_map(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


def pod(name: str = "p", *containers: str) -> dict[str, Any]:
    made = [
        {"name": c, "image": "gpuyard.io/host-process", "command": ["true"]} for c in containers or ("main",)
    ]
    spec = {"runtimeClassName": "gpuyard-process", "restartPolicy": "Never", "containers": made}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def refused(response: httpx.Response, code: int, reason: str) -> str:
    """The message of a Status with this code and reason."""
    status = response.json()
    assert response.status_code == code, response.text
    assert response.headers["content-type"] == "application/json"
    assert {k: status[k] for k in ("kind", "apiVersion", "status", "reason", "code")} == {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
    }
    return str(status["message"])


async def test_documents(served: Served) -> None:
    version = (await served.http.get("/version")).json()
    assert version["gitVersion"] == f"v1.37.0+gpuyard-{__version__}"
    for path in ("/healthz", "/livez", "/readyz"):
        response = await served.http.get(path)
        assert (response.status_code, response.text) == (200, "ok")
        assert response.headers["gpuyard-version"] == __version__
    assert (await served.http.get("/api")).json()["versions"] == ["v1"]
    groups = (await served.http.get("/apis")).json()["groups"]
    assert "batch" in [group["name"] for group in groups]
    paths = (await served.http.get("/openapi/v3")).json()["paths"]
    for entry in paths.values():
        assert (await served.http.get(entry["serverRelativeURL"])).json()["openapi"].startswith("3.")


async def test_aggregated_discovery_is_served_to_whom_asks(served: Served) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    response = await served.http.get("/apis", headers={"Accept": f"{aggregated},application/json"})
    assert response.headers["content-type"] == aggregated
    assert response.json()["kind"] == "APIGroupDiscoveryList"
    old = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    assert (await served.http.get("/apis", headers={"Accept": old})).json()["kind"] == "APIGroupList"
    response = await served.http.get("/apis", headers={"Accept": "application/vnd.kubernetes.protobuf"})
    refused(response, 406, "NotAcceptable")


async def test_the_verbs(served: Served) -> None:
    http = served.http
    made = await http.post(MAPS, json=config_map(data={"k": "1"}))
    assert made.status_code == 201
    assert (await http.get(f"{MAPS}/a")).content == made.content
    changed = await http.put(f"{MAPS}/a", json=made.json() | {"data": {"k": "2"}})
    assert changed.json()["data"] == {"k": "2"}
    merge = {"Content-Type": "application/merge-patch+json"}
    patched = await http.patch(f"{MAPS}/a", json={"data": {"j": "3"}}, headers=merge)
    assert patched.json()["data"] == {"k": "2", "j": "3"}
    listed = (await http.get(MAPS)).json()
    assert (listed["kind"], listed["items"]) == ("ConfigMapList", [patched.json()])
    assert listed["metadata"] == {"resourceVersion": patched.json()["metadata"]["resourceVersion"]}
    deleted = (await http.delete(f"{MAPS}/a")).json()
    assert deleted["status"] == "Success"
    assert deleted["details"] == {
        "name": "a",
        "kind": "configmaps",
        "uid": made.json()["metadata"]["uid"],
    }
    refused(await http.get(f"{MAPS}/a"), 404, "NotFound")


async def test_deleting_a_collection_takes_what_the_selector_names(served: Served) -> None:
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        made = config_map(name)
        made["metadata"]["labels"] = {"colour": colour}
        await served.http.post(MAPS, json=made)
    deleted = (await served.http.delete(MAPS, params={"labelSelector": "colour=red"})).json()
    assert [item["metadata"]["name"] for item in deleted["items"]] == ["a", "c"]
    left = (await served.http.get(MAPS)).json()["items"]
    assert [item["metadata"]["name"] for item in left] == ["b"]


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/metrics", 404, "NotFound"),
        ("GET", "/apis/apps/v1/statefulsets", 404, "NotFound"),
        ("GET", "/openapi/v3/apis/autoscaling/v1", 404, "NotFound"),
        ("GET", f"{PODS}/p/proxy", 404, "NotFound"),
        ("POST", "/version", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/pods", 405, "MethodNotAllowed"),
        ("DELETE", "/api/v1/pods", 405, "MethodNotAllowed"),
        ("DELETE", "/api/v1/namespaces", 405, "MethodNotAllowed"),
        ("PUT", MAPS, 405, "MethodNotAllowed"),
        ("POST", f"{MAPS}/a", 405, "MethodNotAllowed"),
        ("OPTIONS", MAPS, 405, "MethodNotAllowed"),
        ("DELETE", f"{PODS}/p/status", 405, "MethodNotAllowed"),
        ("GET", f"{PODS}/p/binding", 405, "MethodNotAllowed"),
        ("POST", f"{PODS}/p/log", 405, "MethodNotAllowed"),
        ("PATCH", "/api/v1/namespaces/default/finalize", 405, "MethodNotAllowed"),
    ],
)
async def test_what_is_not_served(served: Served, method: str, path: str, code: int, reason: str) -> None:
    assert refused(await served.http.request(method, path, json={}), code, reason)


@pytest.mark.parametrize(
    ("content", "headers", "code", "reason", "message"),
    [
        (b"{", {}, 400, "BadRequest", "not valid JSON"),
        (b"", {}, 400, "BadRequest", "not valid JSON"),
        (b"[]", {}, 400, "BadRequest", "must be a JSON object of kind ConfigMap"),
        (b'"x"', {}, 400, "BadRequest", "must be a JSON object of kind ConfigMap"),
        (b"null", {}, 400, "BadRequest", "must be a JSON object of kind ConfigMap"),
        (b'{"metadata":{"name":5}}', {}, 400, "BadRequest", "cannot be handled as a ConfigMap"),
        (b'{"metadata":[]}', {}, 400, "BadRequest", "cannot be handled as a ConfigMap"),
        (b'{"kind":5}', {}, 400, "BadRequest", "kind must be text"),
        (b'{"apiVersion":["v1"]}', {}, 400, "BadRequest", "apiVersion must be text"),
        (b'{"metadata":{"name":"\xff"}}', {}, 400, "BadRequest", "not valid JSON"),
        (
            b"k8s\x00", {"Content-Type": "application/vnd.kubernetes.protobuf"},
            400, "BadRequest", 'no kind "" is registered',
        ),
        (b"a: b", {"Content-Type": "application/yaml"}, 415, "UnsupportedMediaType", "unknown format"),
        (b"{}", {"Accept": "text/html"}, 406, "NotAcceptable", "only the following media types"),
        (b" " * 3145729, {}, 413, "RequestEntityTooLarge", "limit is 3145728"),
    ],
)  # fmt: skip
async def test_wrong_bodies(
    served: Served, content: bytes, headers: dict[str, str], code: int, reason: str, message: str
) -> None:
    assert message in refused(await served.http.post(MAPS, content=content, headers=headers), code, reason)


async def test_a_body_without_a_length_is_limited_too(served: Served) -> None:
    async def chunks() -> Any:
        for _ in range(50):
            yield b" " * 65536

    assert refused(await served.http.post(MAPS, content=chunks()), 413, "RequestEntityTooLarge")


async def test_patches_need_a_media_type_of_patches(served: Served) -> None:
    await served.http.post(MAPS, json=config_map())
    for media_type in ("application/json", "application/apply-patch+yaml"):
        response = await served.http.patch(f"{MAPS}/a", content=b"{}", headers={"Content-Type": media_type})
        assert "application/merge-patch+json" in refused(response, 415, "UnsupportedMediaType")


@pytest.mark.parametrize("media_type", ["strategic-merge-patch", "merge-patch", "json-patch"])
async def test_a_patch_nested_too_deeply_is_a_400(served: Served, media_type: str) -> None:
    await served.http.post(MAPS, json=config_map())
    deep = '{"a":' * 1000 + "1" + "}" * 1000
    patch = f'{{"data":{deep}}}'
    if media_type == "json-patch":
        patch = f'[{{"op":"add","path":"/data","value":{deep}}}]'
    headers = {"Content-Type": f"application/{media_type}+json"}
    response = await served.http.patch(f"{MAPS}/a", content=patch, headers=headers)
    assert "nested too deeply" in refused(response, 400, "BadRequest")


async def test_a_warning_of_a_field_with_control_characters(served: Served) -> None:
    warned = await served.http.post(MAPS, json=config_map() | {"do\x00\r\nta\x7f": 1})
    assert warned.status_code == 201
    assert warned.headers["warning"].startswith('299 - "unknown field')


async def test_field_validation(served: Served) -> None:
    odd = config_map(dota={"k": "v"}, color="red")
    strict = await served.http.post(MAPS, json=odd, params={"fieldValidation": "Strict"})
    assert 'strict decoding error: unknown field "' in refused(strict, 400, "BadRequest")
    warned = await served.http.post(MAPS, json=odd)
    assert warned.status_code == 201
    assert warned.headers.get_list("warning") == [
        '299 - "unknown field \\"dota\\""',
        '299 - "unknown field \\"color\\""',
    ]
    assert "dota" not in warned.json()
    ignored = await served.http.put(f"{MAPS}/a", json=odd, params={"fieldValidation": "Ignore"})
    assert ignored.status_code == 200
    assert "warning" not in ignored.headers
    wrong = await served.http.post(MAPS, json=odd, params={"fieldValidation": "Perhaps"})
    assert "supported values" in refused(wrong, 422, "Invalid")


async def test_rules_are_refused_with_their_field_paths(served: Served) -> None:
    response = await served.http.post(PODS, json=pod() | {"spec": {"containers": []}})
    refused(response, 422, "Invalid")
    assert "spec.containers" in [cause["field"] for cause in response.json()["details"]["causes"]]


async def test_dry_run(served: Served) -> None:
    response = await served.http.post(MAPS, json=config_map(), params={"dryRun": "All"})
    assert response.status_code == 201
    refused(await served.http.get(f"{MAPS}/a"), 404, "NotFound")


async def test_conflicts(served: Served) -> None:
    made = (await served.http.post(MAPS, json=config_map())).json()
    refused(await served.http.post(MAPS, json=config_map()), 409, "AlreadyExists")
    await served.http.put(f"{MAPS}/a", json=made | {"data": {"k": "1"}})
    response = await served.http.put(f"{MAPS}/a", json=made | {"data": {"k": "2"}})
    assert "the object has been modified" in refused(response, 409, "Conflict")


async def test_tables(served: Served) -> None:
    await served.http.post(PODS, json=pod())
    listed = (await served.http.get(PODS, headers=TABLE)).json()
    names = [column["name"] for column in listed["columnDefinitions"]]
    assert (listed["kind"], names[:4]) == ("Table", ["Name", "Ready", "Status", "Restarts"])
    [row] = listed["rows"]
    assert row["cells"][0] == "p"
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert listed["metadata"]["resourceVersion"] == row["object"]["metadata"]["resourceVersion"]
    one = (await served.http.get(f"{PODS}/p", headers=TABLE, params={"includeObject": "Object"})).json()
    assert one["rows"][0]["object"]["spec"]["restartPolicy"] == "Never"


async def test_metadata_only(served: Served) -> None:
    await served.http.post(MAPS, json=config_map(data={"k": "v"}))
    accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    listed = (await served.http.get(MAPS, headers=accept)).json()
    assert listed["kind"] == "PartialObjectMetadataList"
    assert [sorted(item) for item in listed["items"]] == [["apiVersion", "kind", "metadata"]]
    accept = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    assert (await served.http.get(f"{MAPS}/a", headers=accept)).json()["kind"] == "PartialObjectMetadata"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/v1/namespaces/default/finalize", "null"),
        ("PUT", "/api/v1/namespaces/default/finalize", "[1]"),
        ("PUT", f"{MAPS}/a", '"x"'),
        ("POST", MAPS, "[]"),
        ("DELETE", f"{MAPS}/a", '{"preconditions": 5}'),
        ("DELETE", f"{MAPS}/a", '{"preconditions": "x"}'),
    ],
)
async def test_a_body_of_another_type_is_a_400(served: Served, method: str, path: str, body: str) -> None:
    await served.http.post(MAPS, json=config_map())
    headers = {"Content-Type": "application/json"}
    assert refused(await served.http.request(method, path, content=body, headers=headers), 400, "BadRequest")


async def test_binding_and_eviction(served: Served) -> None:
    await served.http.post(PODS, json=pod())
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
    nowhere = binding | {"target": {}}
    refused(await served.http.post(f"{PODS}/p/binding", json=nowhere), 422, "Invalid")
    bound = await served.http.post(f"{PODS}/p/binding", json=binding)
    assert (bound.status_code, bound.json()["status"]) == (201, "Success")
    refused(await served.http.post(f"{PODS}/p/binding", json=binding), 409, "Conflict")
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 7},
    }
    assert (await served.http.post(f"{PODS}/p/eviction", json=eviction)).status_code == 201
    marked = (await served.http.get(f"{PODS}/p")).json()["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 7


async def test_a_deleted_job_warns_that_its_pods_stay(served: Served) -> None:
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod()["spec"]}}}
    assert (await served.http.post(JOBS, json=job)).status_code == 201
    response = await served.http.delete(f"{JOBS}/j")
    assert "child pods are preserved by default" in response.headers["warning"]
    assert response.json()["metadata"]["finalizers"] == ["orphan"]


async def test_logs(served: Served, api: ObjectApi, logs: MemoryLogs) -> None:
    await served.http.post(PODS, json=pod("p", "main", "side"))
    logs.text = {"main": [b"one\n", b"two\n"]}
    log = f"{PODS}/p/log"
    assert "does not have a host" in refused(
        await served.http.get(log, params={"container": "main"}), 400, "BadRequest"
    )
    await api.bind("default", "p", "n")
    response = await served.http.get(
        log, params={"container": "main", "tailLines": "5", "limitBytes": "100", "sinceSeconds": "9"}
    )
    assert (response.status_code, response.content) == (200, b"one\ntwo\n")
    assert response.headers["content-type"] == "text/plain"
    await served.http.get(
        log, params={"container": "main", "timestamps": "true", "sinceTime": "2026-01-01T01:00:00+01:00"}
    )
    options, dated = logs.asked
    assert (options.tail_lines, options.limit_bytes, options.since_s) == (5, 100, 9)
    assert not options.follow and not options.timestamps and options.since is None
    assert dated.timestamps and dated.since == datetime(2026, 1, 1, tzinfo=UTC)
    for params, message in (
        ({}, "a container name must be specified for pod p, choose one of: [main side]"),
        ({"container": "x"}, "container x is not valid for pod p"),
        ({"container": "side"}, "is waiting to start: ContainerCreating"),
        ({"container": "main", "sinceTime": "2026-01-01T00:00:00Z", "sinceSeconds": "9"}, "at most one of"),
        ({"container": "main", "sinceTime": "yesterday"}, "'yesterday' is no time of RFC 3339"),
        ({"container": "main", "sinceTime": "2026-01-01"}, "'2026-01-01' is no time of RFC 3339"),
        ({"container": "main", "stream": "Stdout"}, "only All is served"),
    ):
        assert message in refused(await served.http.get(log, params=params), 400, "BadRequest")
    refused(await served.http.get(f"{PODS}/q/log"), 404, "NotFound")


async def test_a_question_is_answered_and_not_kept(served: Served) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    asked = {**head, "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    answer = await served.http.post(path, json=asked)
    assert answer.status_code == 201
    assert answer.json()["status"]["allowed"] and answer.json()["spec"] == asked["spec"]
    assert "exactly one of" in refused(
        await served.http.post(path, json={**head, "spec": {}}), 422, "Invalid"
    )
    refused(await served.http.get(path), 405, "MethodNotAllowed")
    refused(await served.http.get(f"{path}/a"), 404, "NotFound")
    rules = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {}}
    refused(
        await served.http.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json=rules),
        400,
        "BadRequest",
    )


@pytest.mark.parametrize(
    "header", ["Impersonate-User", "Impersonate-Group", "IMPERSONATE-UID", "impersonate-Extra-scopes"]
)
async def test_nobody_else_s_rights_are_lent(served: Served, header: str) -> None:
    said = refused(await served.http.get(PODS, headers={header: "bob"}), 403, "Forbidden")
    whom = header.lower().removeprefix("impersonate-")
    assert said.startswith(f'{whom} "bob" is forbidden')


async def test_the_review_knows_each_document_there_is(served: Served) -> None:
    listed = (await served.http.get("/")).json()["paths"]
    assert "/openapi/v3/apis/batch/v1" in listed
    for path in listed:
        assert (await served.http.get(path)).status_code == 200
