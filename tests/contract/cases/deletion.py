"""Finalizers, graceful deletion, garbage collection and namespaces that go."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import names, pick, said, without

_HOLD = "example.com/hold"
_WAIT = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def _release(api: Api, path: str) -> None:
    api.made(api.patch(path, {"metadata": {"finalizers": None}}))


def _owned(owner: Any, **fields: Any) -> dict[str, Any]:
    return {**pick(owner, "apiVersion", "kind"), **pick(owner["metadata"], "name", "uid"), **fields}


def finalizer_holds(api: Api) -> Any:
    """An object with a finalizer is marked, and goes when the finalizer does."""
    api.make("configmaps", metadata={"finalizers": [_HOLD]})
    path = f"configmaps/{api.name}"
    answer = api.delete(path)
    marked = pick(api.read(path), "metadata.deletionTimestamp", "metadata.deletionGracePeriodSeconds")
    _release(api, path)
    return [answer.code, answer.body["kind"], marked, api.get(path).code]


def finalizer_added_while_deleting(api: Api) -> Any:
    """No finalizer can be added to what is being deleted."""
    api.make("configmaps", metadata={"finalizers": [_HOLD]})
    path = f"configmaps/{api.name}"
    api.delete(path)
    answer = said(api.patch(path, {"metadata": {"finalizers": [_HOLD, "example.com/more"]}}))
    _release(api, path)
    return answer


def deletion_cant_be_undone(api: Api) -> Any:
    """A deletionTimestamp can't be taken away."""
    api.make("configmaps", metadata={"finalizers": [_HOLD]})
    path = f"configmaps/{api.name}"
    api.delete(path)
    answer = api.patch(path, {"metadata": {"deletionTimestamp": None}})
    _release(api, path)
    return [said(answer), "deletionTimestamp" in answer.body["metadata"]]


def deleted_twice(api: Api) -> Any:
    """A second delete of what a finalizer holds changes nothing."""
    api.make("configmaps", metadata={"finalizers": [_HOLD]})
    path = f"configmaps/{api.name}"
    first = api.delete(path)
    second = api.delete(path)
    _release(api, path)
    return [
        second.code,
        pick(first.body, "metadata.deletionTimestamp") == pick(second.body, "metadata.deletionTimestamp"),
    ]


def create_while_deleting(api: Api) -> Any:
    """The name of what is being deleted is taken, and the refusal says so."""
    api.make("configmaps", metadata={"finalizers": [_HOLD]})
    api.delete(f"configmaps/{api.name}")
    answer = said(api.post("configmaps", api.object("configmaps")))
    _release(api, f"configmaps/{api.name}")
    return answer


def pod_that_never_ran(api: Api) -> Any:
    """A pod without a node goes at once; the answer is the pod."""
    api.parked_pod()
    answer = api.delete(f"pods/{api.name}")
    return [said(answer), api.get(f"pods/{api.name}").code]


def pod_that_runs(api: Api) -> Any:
    """A pod that runs is marked, ended with grace, and then goes."""
    api.pod(_WAIT, terminationGracePeriodSeconds=25)
    api.until_phase("Running")
    answer = api.delete(f"pods/{api.name}")
    found = pick(answer.body, "kind", "metadata.deletionGracePeriodSeconds", "metadata.generation")
    marked = "deletionTimestamp" in answer.body["metadata"]
    api.until_gone(f"pods/{api.name}")
    return [answer.code, found, marked]


def pod_with_shorter_grace(api: Api) -> Any:
    """A second delete can shorten the grace, and can't lengthen it."""
    api.pod(_WAIT, metadata={"finalizers": [_HOLD]}, terminationGracePeriodSeconds=20)
    api.until_phase("Running")
    path = f"pods/{api.name}"
    seconds = []
    for grace in (15, 10, 12):
        api.delete(path, {"gracePeriodSeconds": grace})
        seconds.append(pick(api.read(path), "metadata.deletionGracePeriodSeconds"))
    api.made(api.patch(path, {"metadata": {"finalizers": None}}, "merge"))
    api.until_gone(path)
    # It may have ended meanwhile.
    return [seconds[0] in (15, 0), seconds[1] in (10, 0), seconds[2] == seconds[1] or seconds[2] == 0]


def pod_without_grace(api: Api) -> Any:
    """gracePeriodSeconds=0 removes the object at once."""
    api.pod(_WAIT)
    api.until_phase("Running")
    answer = api.delete(f"pods/{api.name}", {"gracePeriodSeconds": 0})
    return [answer.code, api.get(f"pods/{api.name}").code]


def pod_that_ended(api: Api) -> Any:
    """A pod that has ended goes without grace."""
    api.pod()
    api.until_phase("Succeeded")
    answer = api.delete(f"pods/{api.name}")
    return [pick(answer.body, "metadata.deletionGracePeriodSeconds"), api.get(f"pods/{api.name}").code]


def grace_in_the_query(api: Api) -> Any:
    """gracePeriodSeconds may stand in the query, too."""
    api.pod(_WAIT)
    api.until_phase("Running")
    api.delete(f"pods/{api.name}", gracePeriodSeconds=0)
    return api.get(f"pods/{api.name}").code


def propagation_unknown(api: Api) -> Any:
    """Another propagationPolicy is refused."""
    api.make("configmaps")
    return said(api.delete(f"configmaps/{api.name}", {"propagationPolicy": "Sideways"}))


def propagation_twice(api: Api) -> Any:
    """orphanDependents and propagationPolicy can't be together."""
    api.make("configmaps")
    return said(
        api.delete(f"configmaps/{api.name}", {"propagationPolicy": "Orphan", "orphanDependents": True})
    )


def background(api: Api) -> Any:
    """Background: the owner goes at once, its dependents after it."""
    owner = api.make("configmaps")
    api.make("secrets", metadata={"ownerReferences": [_owned(owner)]})
    api.delete(f"configmaps/{api.name}", {"propagationPolicy": "Background"})
    gone = api.get(f"configmaps/{api.name}").code
    api.until_gone(f"secrets/{api.name}")
    return gone


def background_by_default(api: Api) -> Any:
    """Without a policy, dependents of a ConfigMap go, too."""
    owner = api.make("configmaps")
    api.make("secrets", metadata={"ownerReferences": [_owned(owner)]})
    api.delete(f"configmaps/{api.name}")
    api.until_gone(f"secrets/{api.name}")
    return "gone"


def foreground(api: Api) -> Any:
    """Foreground: the owner waits for the dependents that block it."""
    owner = api.make("configmaps")
    owners = [_owned(owner, blockOwnerDeletion=True)]
    api.make("secrets", metadata={"ownerReferences": owners, "finalizers": [_HOLD]})
    answer = api.delete(f"configmaps/{api.name}", {"propagationPolicy": "Foreground"})
    api.until(f"secrets/{api.name}", lambda found: found["metadata"].get("deletionTimestamp"))
    held = api.get(f"configmaps/{api.name}").code
    _release(api, f"secrets/{api.name}")
    api.until_gone(f"configmaps/{api.name}")
    return [answer.body["kind"], pick(answer.body, "metadata.finalizers"), held]


def foreground_of_those_that_dont_block(api: Api) -> Any:
    """Foreground: dependents that don't block are not waited for."""
    owner = api.make("configmaps")
    api.make("secrets", metadata={"ownerReferences": [_owned(owner)], "finalizers": [_HOLD]})
    api.delete(f"configmaps/{api.name}", {"propagationPolicy": "Foreground"})
    api.until_gone(f"configmaps/{api.name}")
    held = api.get(f"secrets/{api.name}").code
    _release(api, f"secrets/{api.name}")
    return held


def orphan(api: Api) -> Any:
    """Orphan: dependents stay, and lose the reference."""
    owner = api.make("configmaps")
    api.make("secrets", metadata={"ownerReferences": [_owned(owner)]})
    answer = api.delete(f"configmaps/{api.name}", {"propagationPolicy": "Orphan"})
    api.until_gone(f"configmaps/{api.name}")
    left = api.read(f"secrets/{api.name}")
    return [pick(answer.body, "metadata.finalizers"), pick(left, "metadata.ownerReferences")]


def second_owner_keeps(api: Api) -> Any:
    """A dependent with another owner that lives stays, with that one."""
    first, second = api.make("configmaps", f"{api.name}-a"), api.make("configmaps", f"{api.name}-b")
    api.make("secrets", metadata={"ownerReferences": [_owned(first), _owned(second)]})
    api.delete(f"configmaps/{api.name}-a", {"propagationPolicy": "Background"})
    left = api.until(f"secrets/{api.name}", lambda found: len(found["metadata"]["ownerReferences"]) == 1)
    return left["metadata"]["ownerReferences"][0]["name"]


def owner_that_never_was(api: Api) -> Any:
    """A dependent of an owner that isn't there is removed."""
    uid = "00000000-0000-0000-0000-000000000001"
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": uid}
    api.make("secrets", metadata={"ownerReferences": [owner]})
    api.until_gone(f"secrets/{api.name}")
    return "gone"


def chain(api: Api) -> Any:
    """Dependents of dependents go, too."""
    first = api.make("configmaps")
    second = api.make("secrets", metadata={"ownerReferences": [_owned(first)]})
    api.make("leases", metadata={"ownerReferences": [_owned(second)]})
    api.delete(f"configmaps/{api.name}", {"propagationPolicy": "Background"})
    api.until_gone(f"leases/{api.name}")
    return "gone"


def job_orphans_by_default(api: Api) -> Any:
    """A delete of a Job that says nothing leaves its pods, with a warning."""
    api.job(_WAIT)
    api.until("pods", lambda found: found["items"], labelSelector=f"case={api.name}")
    answer = api.delete(f"jobs/{api.name}")
    api.until_gone(f"jobs/{api.name}")
    left = api.until(
        "pods",
        lambda found: not pick(found, "items.0.metadata.ownerReferences"),
        labelSelector=f"case={api.name}",
    )["items"]
    api.delete("pods", {"gracePeriodSeconds": 0}, labelSelector=f"case={api.name}")
    return [answer.code, answer.body["kind"], answer.warnings, len(left)]


def job_in_background(api: Api) -> Any:
    """With Background its pods go."""
    api.job(_WAIT)
    api.until("pods", lambda found: found["items"], labelSelector=f"case={api.name}")
    answer = api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    api.until("pods", lambda found: not found["items"], labelSelector=f"case={api.name}")
    return [answer.code, without(answer.body, "metadata"), answer.warnings]


def job_in_foreground(api: Api) -> Any:
    """With Foreground the Job waits for its pods."""
    api.job(_WAIT)
    api.until("pods", lambda found: found["items"], labelSelector=f"case={api.name}")
    answer = api.delete(f"jobs/{api.name}", {"propagationPolicy": "Foreground"})
    api.until_gone(f"jobs/{api.name}")
    return [answer.code, pick(answer.body, "metadata.finalizers"), names(api.mine("pods"))]


def eviction(api: Api) -> Any:
    """An eviction deletes the pod."""
    api.parked_pod()
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": api.name}}
    answer = api.post(f"pods/{api.name}/eviction", body)
    return [said(answer), api.get(f"pods/{api.name}").code]


def eviction_of_missing(api: Api) -> Any:
    """An eviction of a pod that isn't there is 404."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "missing"}}
    return said(api.post("pods/missing/eviction", body))


def _namespace(api: Api) -> str:
    """The path of a new namespace."""
    name = f"{api.namespace}-{api.name}"
    api.make("namespaces", name)
    return f"/api/v1/namespaces/{name}"


def namespace_made(api: Api) -> Any:
    """A new namespace is Active, names itself in a label, and has a finalizer in its spec."""
    path = _namespace(api)
    found = pick(api.read(path), "metadata.labels", "spec", "status")
    api.delete(path)
    return found


def namespace_goes(api: Api) -> Any:
    """A namespace that is deleted is Terminating, takes all that is in it along, and goes."""
    path = _namespace(api)
    body = {"metadata": {"name": "inside"}}
    api.made(api.post(f"{path}/configmaps", body))
    answer = api.delete(path)
    api.until_gone(path)
    return [answer.code, pick(answer.body, "kind", "status.phase"), api.get(f"{path}/configmaps/inside").code]


def namespace_that_goes_takes_nothing(api: Api) -> Any:
    """Nothing can be created in a namespace that is Terminating."""
    path = _namespace(api)
    api.made(api.post(f"{path}/configmaps", {"metadata": {"name": "held", "finalizers": [_HOLD]}}))
    api.delete(path)
    api.until(path, lambda found: found["status"]["phase"] == "Terminating")
    answer = said(api.post(f"{path}/configmaps", {"metadata": {"name": "new"}}))
    api.until(f"{path}/configmaps/held", lambda found: found["metadata"].get("deletionTimestamp"))
    held = api.get(path).code
    api.made(api.patch(f"{path}/configmaps/held", {"metadata": {"finalizers": None}}))
    api.until_gone(path)
    return [answer, held]


def namespace_says_what_holds_it(api: Api) -> Any:
    """A namespace that can't be emptied says in its conditions what is left."""
    path = _namespace(api)
    api.made(api.post(f"{path}/configmaps", {"metadata": {"name": "held", "finalizers": [_HOLD]}}))
    api.delete(path)
    wanted = ("NamespaceContentRemaining", "NamespaceFinalizersRemaining")

    def says(found: Any) -> bool:
        conditions = found["status"].get("conditions", ())
        return {c["type"] for c in conditions if c["status"] == "True"} >= set(wanted)

    found = api.until(path, says)
    api.made(api.patch(f"{path}/configmaps/held", {"metadata": {"finalizers": None}}))
    api.until_gone(path)
    return sorted([c["type"], c["status"], c["reason"], c["message"]] for c in found["status"]["conditions"])


def namespace_default(api: Api) -> Any:
    """The namespace default can't be deleted."""
    return said(api.delete("namespaces/default"))


def namespace_taken(api: Api) -> Any:
    """A namespace's name is taken once."""
    return said(api.post("namespaces", api.object("namespaces", "default")))


def namespace_collection(api: Api) -> Any:
    """Namespaces can't be deleted as a collection."""
    return said(api.delete("namespaces", labelSelector="no=one"))


def namespace_label_stays(api: Api) -> Any:
    """The label with a namespace's own name can't be changed."""
    path = _namespace(api)
    found = api.made(api.patch(path, {"metadata": {"labels": {"kubernetes.io/metadata.name": "x"}}}))
    api.delete(path)
    return pick(found, "metadata.labels")
