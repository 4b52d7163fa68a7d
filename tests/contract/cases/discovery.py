"""What a server says of itself: versions, groups, resources, OpenAPI, health."""

from __future__ import annotations

from typing import Any

import httpx

from tests.contract.api import Api
from tests.contract.observations import pick, said
from tests.waiting import until

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
#: The kinds that a yard serves; a cluster has more.
_CORE = ("configmaps", "events", "namespaces", "nodes", "pods", "secrets", "serviceaccounts")


def _resource(api: Api, document: str, name: str) -> Any:
    found = [entry for entry in api.read(document)["resources"] if entry["name"] == name]
    fields = ("name", "singularName", "kind", "namespaced", "shortNames", "categories")
    return [{**pick(entry, *fields), "verbs": sorted(entry["verbs"])} for entry in found]


def version(api: Api) -> Any:
    """/version has these fields."""
    return sorted({"major", "minor", "gitVersion", "platform"} & api.read("/version").keys())


def health(api: Api) -> Any:
    """/healthz, /livez and /readyz say ok."""
    return [api.get(path).body for path in ("/healthz", "/livez", "/readyz")]


def core_versions(api: Api) -> Any:
    """/api names v1."""
    return pick(api.read("/api"), "kind", "versions")


def groups(api: Api) -> Any:
    """/apis names the groups."""
    found = api.read("/apis")
    wanted = ("batch", "coordination.k8s.io", "scheduling.k8s.io")
    return [
        found["kind"],
        sorted((g for g in found["groups"] if g["name"] in wanted), key=lambda g: str(g["name"])),
    ]


def group(api: Api) -> Any:
    """/apis/GROUP names its versions."""
    return api.read("/apis/batch")


def group_unknown(api: Api) -> Any:
    """A group that isn't there is 404."""
    return [said(api.get(path))["code"] for path in ("/apis/no.example.com", "/apis/batch/v9", "/api/v9")]


def core_resources(api: Api) -> Any:
    """/api/v1 names the kinds with their verbs, short names and categories."""
    return [_resource(api, "/api/v1", name) for name in _CORE]


def core_subresources(api: Api) -> Any:
    """And their subresources."""
    names = (
        "pods/status",
        "pods/binding",
        "pods/eviction",
        "pods/log",
        "namespaces/finalize",
        "nodes/status",
    )
    entries = {entry["name"]: entry for entry in api.read("/api/v1")["resources"]}
    return [pick(entries.get(name, {}), "name", "kind", "group", "version") for name in names]


def batch_resources(api: Api) -> Any:
    """/apis/batch/v1 names jobs and their status."""
    return [_resource(api, "/apis/batch/v1", name) for name in ("jobs", "jobs/status")]


def other_resources(api: Api) -> Any:
    """So do the groups of Leases and PriorityClasses."""
    return [
        _resource(api, "/apis/coordination.k8s.io/v1", "leases"),
        _resource(api, "/apis/scheduling.k8s.io/v1", "priorityclasses"),
    ]


def aggregated(api: Api) -> Any:
    """/apis in one document, when asked for."""
    answer = api.send("GET", "/apis", headers={"Accept": _AGGREGATED})
    batch = next(item for item in answer.body["items"] if item["metadata"]["name"] == "batch")
    jobs = next(r for r in batch["versions"][0]["resources"] if r["resource"] == "jobs")
    return [pick(answer.body, "kind", "apiVersion"), {**jobs, "verbs": sorted(jobs["verbs"])}]


def openapi_paths(api: Api) -> Any:
    """/openapi/v3 names a document for each group."""
    found = api.read("/openapi/v3")["paths"]
    return [name in found for name in ("api/v1", "apis/batch/v1", "apis/scheduling.k8s.io/v1")]


def openapi_document(api: Api) -> Any:
    """A group's document has paths and schemas, with the keys of strategic merges."""
    entry = api.read("/openapi/v3")["paths"]["apis/batch/v1"]
    document = api.read(entry["serverRelativeURL"])
    schemas = document["components"]["schemas"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    path = document["paths"]["/apis/batch/v1/namespaces/{namespace}/jobs"]
    parameters = {parameter["name"] for parameter in path["post"].get("parameters", ())}
    return [
        document["openapi"],
        schemas["io.k8s.api.batch.v1.Job"]["x-kubernetes-group-version-kind"],
        pick(containers, "type", "x-kubernetes-patch-merge-key", "x-kubernetes-patch-strategy"),
        "fieldValidation" in parameters,
        path["post"].get("x-kubernetes-action"),
    ]


def openapi_second_version(api: Api) -> Any:
    """/openapi/v2, the older form."""
    return api.get("/openapi/v2").code


def root(api: Api) -> Any:
    """/ lists the paths."""
    answer = api.get("/")
    return [answer.code, isinstance(answer.body, dict) and "paths" in answer.body]


def metrics(api: Api) -> Any:
    """/metrics has metrics; the yard's are those of its GPUs, once they are read."""
    return until(lambda: api.get("/metrics").code, "/metrics is served", lambda code: code != 503)


def anonymous(api: Api) -> Any:
    """Health is for everyone, the rest isn't."""
    base = str(api.base)
    with httpx.Client(base_url=base, verify=False, trust_env=False) as client:
        return [client.get(path).status_code in (401, 403) for path in ("/healthz", "/api/v1/pods")]


def deployments(api: Api) -> Any:
    """Deployments are served."""
    return api.get("/apis/apps/v1/deployments").code


def services(api: Api) -> Any:
    """Services are served."""
    return api.get("/api/v1/services").code


def cron_jobs(api: Api) -> Any:
    """CronJobs are served."""
    return api.get("/apis/batch/v1/cronjobs").code


def volume_claims(api: Api) -> Any:
    """PersistentVolumeClaims are served."""
    return api.get("/api/v1/persistentvolumeclaims").code


def runtime_classes(api: Api) -> Any:
    """RuntimeClasses are served."""
    return api.get("/apis/node.k8s.io/v1/runtimeclasses").code


def custom_resources(api: Api) -> Any:
    """CustomResourceDefinitions are served."""
    return api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").code


def roles(api: Api) -> Any:
    """Roles are served."""
    return api.get("/apis/rbac.authorization.k8s.io/v1/roles").code


def newer_events(api: Api) -> Any:
    """Events of the group events.k8s.io are served."""
    return api.get("/apis/events.k8s.io/v1/events").code


def quotas(api: Api) -> Any:
    """ResourceQuotas are served."""
    return api.get("/api/v1/resourcequotas").code


def _review(api: Api, kind: str, **body: Any) -> Any:
    group = "authentication.k8s.io" if kind == "SelfSubjectReview" else "authorization.k8s.io"
    review = {"kind": kind, "apiVersion": f"{group}/v1", **body}
    return api.post(f"/apis/{group}/v1/{kind.lower()}s", review)


def access_review(api: Api) -> Any:
    """A client can ask what it may do: to an object, or at a path."""
    attributes = {"verb": "create", "resource": "pods", "namespace": api.namespace}
    path = {"verb": "get", "path": "/version"}
    answers = [
        _review(api, "SelfSubjectAccessReview", spec=spec)
        for spec in ({"resourceAttributes": attributes}, {"nonResourceAttributes": path})
    ]
    return [[answer.code, pick(answer.body, "kind", "spec", "status.allowed")] for answer in answers]


def access_review_of_nothing(api: Api) -> Any:
    """A question about nothing, or about an object and a path at once, is refused."""
    both: dict[str, Any] = {"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"verb": "get"}}
    return [
        pick(said(_review(api, "SelfSubjectAccessReview", spec=spec)), "code", "reason")
        for spec in ({}, both)
    ]


def access_review_only_answered(api: Api) -> Any:
    """Questions aren't kept: they can't be read."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return [api.get(path).code, api.get(f"{path}/a").code, api.send("DELETE", path).code]


def rules_review(api: Api) -> Any:
    """A client can ask for all that it may do in a namespace, which it has to name."""
    answer = _review(api, "SelfSubjectRulesReview", spec={"namespace": api.namespace})
    lists = ("resourceRules", "nonResourceRules")
    without = said(_review(api, "SelfSubjectRulesReview", spec={}))
    return [
        answer.code,
        [bool(answer.body["status"].get(name)) for name in lists],
        pick(answer.body, "status.incomplete"),
        pick(without, "code", "reason"),
    ]


def self_review(api: Api) -> Any:
    """A client can ask who it is."""
    answer = _review(api, "SelfSubjectReview")
    user = answer.body["status"]["userInfo"]
    return [answer.code, bool(user.get("username")), "system:authenticated" in user.get("groups", [])]


def review_resources(api: Api) -> Any:
    """Their groups name them."""
    names = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")
    groups = ("authorization.k8s.io", "authorization.k8s.io", "authentication.k8s.io")
    return [_resource(api, f"/apis/{group}/v1", name) for group, name in zip(groups, names, strict=True)]


def token(api: Api) -> Any:
    """A ServiceAccount gives tokens."""
    api.make("serviceaccounts")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return api.post(f"serviceaccounts/{api.name}/token", body).code


def exec_in_pod(api: Api) -> Any:
    """A command can be run in a pod (without an upgrade of the connection it is 400)."""
    api.parked_pod()
    return api.get(f"pods/{api.name}/exec", command="true").code


def scale(api: Api) -> Any:
    """A Job has no scale."""
    api.job(suspend=True)
    return api.get(f"jobs/{api.name}/scale").code
