"""PodDisruptionBudgets, and evictions that keep to them."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import conditions, pick, said, without

_SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def _budget(api: Api, name: str = "", **spec: Any) -> Any:
    wanted = {"selector": {"matchLabels": {"case": api.name}}, **spec}
    return api.make("poddisruptionbudgets", name, spec=wanted)


def _refused(api: Api, **spec: Any) -> Any:
    return said(api.post("poddisruptionbudgets", api.object("poddisruptionbudgets", spec=spec)))


def _until(api: Api, healthy: int, allowed: int) -> Any:
    """The budget once so many pods are healthy, and so many may go."""

    def holds(budget: Any) -> bool:
        status = budget.get("status", {})
        seen = status.get("observedGeneration") == budget["metadata"]["generation"]
        return seen and (status["currentHealthy"], status["disruptionsAllowed"]) == (healthy, allowed)

    return api.until(f"poddisruptionbudgets/{api.name}", holds)


def _ready_pod(api: Api, name: str = "") -> None:
    api.pod(_SLEEP, name)
    api.until_condition(f"pods/{name or api.name}", "Ready")


def _evict(api: Api, pod: str = "", **query: Any) -> Any:
    name = pod or api.name
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    return api.post(f"pods/{name}/eviction", body, **query)


def _told(answer: Any) -> Any:
    """The refusal with what its causes say."""
    causes = (answer.body.get("details") or {}).get("causes") or []
    return [said(answer), [[cause.get("reason"), cause.get("message")] for cause in causes]]


def made(api: Api) -> Any:
    """A new budget allows nothing until somebody has counted."""
    found = api.post(
        "poddisruptionbudgets",
        api.object("poddisruptionbudgets", spec={"minAvailable": 1}, status={"disruptionsAllowed": 5}),
    )
    budget = api.made(found)
    return [budget["spec"], budget["status"], budget["metadata"]["generation"]]


def rules(api: Api) -> Any:
    """How many must be left is a number or a share, or how many may go is."""
    return [
        _refused(api, minAvailable=1, maxUnavailable=1),
        _refused(api, minAvailable=-1),
        _refused(api, minAvailable="half"),
        _refused(api, maxUnavailable="101%"),
        _refused(api, selector={"matchExpressions": [{"key": "a", "operator": "Is"}]}),
        _refused(api, unhealthyPodEvictionPolicy="Never"),
    ]


def updated_without_version(api: Api) -> Any:
    """An update says which version it replaces."""
    _budget(api, minAvailable=1)
    body = api.object("poddisruptionbudgets", spec={"minAvailable": 2})
    return said(api.put(f"poddisruptionbudgets/{api.name}", body))


def selector_is_replaced(api: Api) -> Any:
    """A strategic merge patch replaces the selector."""
    _budget(api, minAvailable=1)
    change = {"spec": {"selector": {"matchLabels": {"other": "b"}}}}
    found = api.patch(f"poddisruptionbudgets/{api.name}", change, "strategic-merge")
    return api.made(found)["spec"]["selector"]


def counts_ready_pods(api: Api) -> Any:
    """Its status says how many pods are ready, and how many of them may go."""
    _ready_pod(api)
    _ready_pod(api, f"{api.name}-2")
    _budget(api, minAvailable=1)
    budget = _until(api, 2, 1)
    return [without(budget["status"], "conditions"), conditions(budget)]


def allows_nothing(api: Api) -> Any:
    """Where none may go it says so."""
    _ready_pod(api)
    _budget(api, minAvailable=1)
    budget = _until(api, 1, 0)
    return [without(budget["status"], "conditions"), conditions(budget)]


def without_pods(api: Api) -> Any:
    """Without pods nothing is allowed."""
    _budget(api, minAvailable=0)
    budget = _until(api, 0, 0)
    return [without(budget["status"], "conditions"), conditions(budget)]


def share_of_a_replica_set(api: Api) -> Any:
    """A share is of the pods that their owners want."""
    pod = api.pod_spec(_SLEEP, restartPolicy="Always")
    labels = {"case": api.name}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    api.make("replicasets", spec=spec)
    _budget(api, maxUnavailable="30%")
    budget = _until(api, 3, 1)
    api.delete(f"replicasets/{api.name}")
    return without(budget["status"], "conditions")


def pods_of_a_job(api: Api) -> Any:
    """Nobody knows how many pods a Job should have."""
    api.job(_SLEEP)
    query = {"labelSelector": f"case={api.name}"}
    api.until("pods", lambda found: found["items"], **query)
    _budget(api, maxUnavailable=1)
    budget = api.until_condition(f"poddisruptionbudgets/{api.name}", "DisruptionAllowed", "False")
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return conditions(budget)


def eviction_refused(api: Api) -> Any:
    """An eviction that would leave too few is refused."""
    _ready_pod(api)
    _budget(api, minAvailable=1)
    _until(api, 1, 0)
    found = _told(_evict(api))
    return [found, "deletionTimestamp" in api.read(f"pods/{api.name}")["metadata"]]


def eviction_allowed(api: Api) -> Any:
    """One that leaves enough is done, and the next is refused at once."""
    _ready_pod(api)
    _ready_pod(api, f"{api.name}-2")
    _budget(api, minAvailable=1)
    _until(api, 2, 1)
    first = _evict(api)
    second = _evict(api, f"{api.name}-2")
    api.until_gone(f"pods/{api.name}")
    return [said(first), said(second)]


def dry_run_takes_nothing(api: Api) -> Any:
    """A dry run takes nothing."""
    _ready_pod(api)
    _budget(api, minAvailable=0)
    _until(api, 1, 1)
    tries = [_evict(api, dryRun="All").code, _evict(api, dryRun="All").code]
    return [tries, pick(api.read(f"poddisruptionbudgets/{api.name}"), "status.disruptionsAllowed")]


def pending_pod(api: Api) -> Any:
    """A pod that doesn't run yet disrupts nothing."""
    api.parked_pod()
    _budget(api, minAvailable=1)
    _until(api, 0, 0)
    return said(_evict(api))


def several_budgets(api: Api) -> Any:
    """A pod that two budgets count isn't evicted."""
    _ready_pod(api)
    _budget(api, minAvailable=0)
    _budget(api, f"{api.name}-2", minAvailable=0)
    _until(api, 1, 1)
    answer = _evict(api)
    return [answer.code, pick(answer.body, "status", "message", "code")]


def table(api: Api) -> Any:
    """As kubectl shows one."""
    _budget(api, minAvailable="50%")
    found = api.table(f"poddisruptionbudgets/{api.name}")
    columns = [column["name"] for column in found["columnDefinitions"]]
    cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
    return {name: cell for name, cell in cells.items() if name != "Age"}
