"""Lists: label and field selectors, pieces, and resourceVersion."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import names, pick, said


def _models(api: Api) -> None:
    sizes = {"a": {"size": "small"}, "b": {"size": "large"}, "c": {"size": "large", "tested": ""}, "d": {}}
    for name, labels in sizes.items():
        api.make("configmaps", f"{api.name}-{name}", metadata={"labels": {"case": api.name, **labels}})


def _found(api: Api, selector: str) -> list[str]:
    items = api.read("configmaps", labelSelector=f"case={api.name},{selector}")["items"]
    return [name.removeprefix(f"{api.name}-") for name in names(items)]


def labels_equal(api: Api) -> Any:
    """=, == and != : an absent label is unequal."""
    _models(api)
    return [_found(api, selector) for selector in ("size=large", "size==large", "size!=large")]


def labels_in_sets(api: Api) -> Any:
    """in and notin: an absent label is in no set."""
    _models(api)
    return [_found(api, selector) for selector in ("size in (small, huge)", "size notin (small,huge)")]


def labels_present(api: Api) -> Any:
    """A key alone asks for the label, with ! for its absence."""
    _models(api)
    return [_found(api, selector) for selector in ("tested", "!tested", "tested=", "size,!tested")]


def labels_malformed(api: Api) -> Any:
    """A label selector that can't be read is 400."""
    selectors = ("a=b=c", "a in", "a in (x", "=x", "a==", "a b")
    return [pick(said(api.get("configmaps", labelSelector=s)), "code", "reason") for s in selectors]


def labels_malformed_message(api: Api) -> Any:
    """The message says what was expected."""
    return said(api.get("configmaps", labelSelector="a in x"))


def fields_name(api: Api) -> Any:
    """metadata.name can be selected, and metadata.namespace."""
    _models(api)
    selectors = (f"metadata.name={api.name}-a", f"metadata.name!={api.name}-a", "metadata.namespace=default")
    return [
        names(api.read("configmaps", fieldSelector=s, labelSelector=f"case={api.name}")["items"])
        for s in selectors
    ]


def fields_of_pods(api: Api) -> Any:
    """Pods can be selected by phase, node, restart policy and scheduler."""
    api.parked_pod(f"{api.name}-a")
    api.parked_pod(f"{api.name}-b", restartPolicy="Always")
    selectors = (
        "status.phase=Pending", "status.phase!=Pending", "spec.nodeName=", "spec.restartPolicy=Always",
        "spec.schedulerName=nobody,spec.restartPolicy!=Always",
    )  # fmt: skip
    return {
        s: names(api.read("pods", fieldSelector=s, labelSelector=f"case={api.name}")["items"])
        for s in selectors
    }


def fields_of_jobs(api: Api) -> Any:
    """Jobs can be selected by status.successful."""
    api.job(suspend=True)
    selectors = ("status.successful=0", "status.successful=1")
    return [
        names(api.read("jobs", fieldSelector=s, labelSelector=f"case={api.name}")["items"]) for s in selectors
    ]


def fields_of_events(api: Api) -> Any:
    """Events can be selected by what they are about, and why."""
    involved = {"kind": "Pod", "namespace": api.namespace, "name": api.name}
    api.make("events", involvedObject=involved, reason="Tested", type="Normal")
    selectors = (
        f"involvedObject.name={api.name},involvedObject.kind=Pod", "involvedObject.kind=Job",
        "reason=Tested", "type=Warning",
    )  # fmt: skip
    return [
        names(api.read("events", fieldSelector=s, labelSelector=f"case={api.name}")["items"])
        for s in selectors
    ]


def fields_of_secrets(api: Api) -> Any:
    """Secrets can be selected by type."""
    api.make("secrets", type="example.com/x")
    return names(api.read("secrets", fieldSelector="type=example.com/x")["items"])


def fields_unknown(api: Api) -> Any:
    """A field that can't be selected is 400."""
    paths = ("configmaps", "pods", "jobs", "events", "nodes", "namespaces")
    return [said(api.get(path, fieldSelector="spec.nonsense=1")) for path in paths]


def fields_malformed(api: Api) -> Any:
    """A field selector that can't be read is 400."""
    return said(api.get("configmaps", fieldSelector="metadata.name"))


def list_of_missing_namespace(api: Api) -> Any:
    """A list in a namespace that isn't there is empty."""
    answer = api.get("/api/v1/namespaces/nowhere/configmaps")
    return [answer.code, answer.body["items"]]


def list_is_as_typed(api: Api) -> Any:
    """A list has a kind of its own, a resourceVersion, and items without apiVersion and kind or with."""
    api.make("configmaps")
    found = api.read("configmaps", labelSelector=f"case={api.name}")
    return [found["kind"], found["apiVersion"], sorted(found["metadata"]), "kind" in found["items"][0]]


def list_across_namespaces(api: Api) -> Any:
    """A list without a namespace has all, in the order of their keys."""
    api.make("configmaps")
    found = api.read("/api/v1/configmaps", labelSelector=f"case={api.name}")["items"]
    return [pick(item, "metadata.namespace", "metadata.name") for item in found]


def _own_leases(api: Api, count: int) -> str:
    """The path of Leases of a namespace that has only so many."""
    name = f"{api.namespace}-{api.name}"
    api.make("namespaces", name)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{name}/leases"
    for index in range(count):
        api.made(api.post(path, {"metadata": {"name": f"l-{index}", "labels": {"case": api.name}}}))
    return path


def list_in_pieces(api: Api) -> Any:
    """limit and continue give a list in pieces, all of one resourceVersion."""
    path = _own_leases(api, 5)
    query: dict[str, Any] = {"limit": 2}
    pieces, versions = [], set()
    while True:
        page = api.read(path, **query)
        pieces.append(names(page["items"]))
        versions.add(page["metadata"]["resourceVersion"])
        if not (token := page["metadata"].get("continue")):
            api.delete(path.removesuffix("/leases").replace("/apis/coordination.k8s.io", "/api"))
            return [pieces, len(versions)]
        # What comes between isn't seen.
        api.delete(f"{path}/l-4")
        query["continue"] = token


def list_in_pieces_counts(api: Api) -> Any:
    """remainingItemCount says how many are left, but not with a selector."""
    path = _own_leases(api, 3)
    plain = api.read(path, limit=1)["metadata"].get("remainingItemCount")
    selected = api.read(path, limit=1, labelSelector=f"case={api.name}")["metadata"]
    api.delete(path.removesuffix("/leases").replace("/apis/coordination.k8s.io", "/api"))
    return [plain, "continue" in selected, "remainingItemCount" in selected]


def continue_malformed(api: Api) -> Any:
    """A continue token that isn't one is 400."""
    answer = said(api.get("configmaps", **{"limit": 1, "continue": "nonsense"}))
    return {**answer, "message": answer["message"].partition(" valid:")[0]}


def continue_with_version(api: Api) -> Any:
    """continue and resourceVersion can't be together."""
    for index in range(2):
        api.make("configmaps", f"{api.name}-{index}")
    token = api.read("configmaps", limit=1)["metadata"]["continue"]
    return said(api.get("configmaps", **{"limit": 1, "continue": token, "resourceVersion": "1"}))


def limit_malformed(api: Api) -> Any:
    """A limit that is no number is 400."""
    return pick(said(api.get("configmaps", limit="many")), "code", "reason")


def version_of_list_rises(api: Api) -> Any:
    """Every write gives lists a higher resourceVersion, also of another kind."""
    before = int(api.read("leases")["metadata"]["resourceVersion"])
    made = int(api.make("configmaps")["metadata"]["resourceVersion"])
    after = int(api.read("leases")["metadata"]["resourceVersion"])
    return before < made <= after


def version_zero(api: Api) -> Any:
    """resourceVersion=0 takes any state; it may be read from a cache."""
    return said(api.get("configmaps", resourceVersion="0"))


def version_not_older(api: Api) -> Any:
    """A list that is not older than a write has it."""
    made = api.make("configmaps")
    found = api.read(
        "configmaps",
        labelSelector=f"case={api.name}",
        resourceVersion=made["metadata"]["resourceVersion"],
        resourceVersionMatch="NotOlderThan",
    )
    return names(found["items"])


def version_exact(api: Api) -> Any:
    """resourceVersionMatch=Exact gives the list as it was."""
    made = api.make("configmaps")
    version = made["metadata"]["resourceVersion"]
    api.make("configmaps", f"{api.name}-later")
    query = {"labelSelector": f"case={api.name}", "resourceVersion": version, "resourceVersionMatch": "Exact"}
    answer = api.get("configmaps", **query)
    return [answer.code, names(answer.body.get("items") or ())]


def version_match_alone(api: Api) -> Any:
    """resourceVersionMatch needs a resourceVersion."""
    return said(api.get("configmaps", resourceVersionMatch="Exact"))


def version_match_unknown(api: Api) -> Any:
    """Another resourceVersionMatch is refused."""
    return said(api.get("configmaps", resourceVersion="5", resourceVersionMatch="Sometimes"))


def version_malformed(api: Api) -> Any:
    """A resourceVersion that is no number is refused."""
    return said(api.get("configmaps", resourceVersion="new"))


def version_of_the_future(api: Api) -> Any:
    """A resourceVersion that isn't reached in time is 504."""
    answer = said(api.get("configmaps", resourceVersion="900000000"))
    return {**answer, "message": answer.get("message", "").partition(",")[0]}
