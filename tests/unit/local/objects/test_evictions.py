"""Evictions against budgets, whose status the tests write themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.objects import DISRUPTION_BUDGETS, PODS, ObjectKey
from gpuyard.local.objects.admission import DEFAULT, WriteOptions
from gpuyard.local.objects.verbs import ObjectApi


async def run(api: ObjectApi, name: str, *, ready: bool = True, phase: str = "Running") -> None:
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    spec = {"runtimeClassName": "gpuyard-process", "containers": [container], "nodeName": "node-a"}
    metadata = {"name": name, "namespace": "default", "labels": {"app": "web"}}
    await api.create(PODS, {"metadata": metadata, "spec": spec})
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
    await api.patch(PODS, name, {"status": status}, "default", subresource="status")


async def limit(api: ObjectApi, allowed: int, name: str = "b", **more: Any) -> None:
    """A budget that allows so many evictions."""
    spec = {"selector": {"matchLabels": {"app": "web"}}, **more.pop("spec", {"minAvailable": 1})}
    metadata = {"name": name, "namespace": "default"}
    await api.create(DISRUPTION_BUDGETS, {"metadata": metadata, "spec": spec})
    status = {"disruptionsAllowed": allowed, "observedGeneration": 1, **more}
    await api.patch(DISRUPTION_BUDGETS, name, {"status": status}, "default", subresource="status")


async def evict(
    api: ObjectApi, name: str, options: WriteOptions = DEFAULT, **preconditions: str
) -> dict[str, Any]:
    spec = api.kinds.of(PODS)
    part = spec.subresource("eviction")
    assert part is not None
    body = {"metadata": {"name": name}, "deleteOptions": {"preconditions": preconditions}}
    answer = await api.create_below_raw(spec, ObjectKey("default", name), part, body, options)
    return answer.manifest


async def status(api: ObjectApi) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(DISRUPTION_BUDGETS, "b", "default"))["status"]
    return found


async def test_it_takes_one_disruption_and_says_so(api: ObjectApi) -> None:
    await run(api, "p")
    await limit(api, 1)
    gone = await evict(api, "p")
    assert gone["metadata"]["deletionTimestamp"]
    assert gone["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"
    now = await status(api)
    assert (now["disruptionsAllowed"], list(now["disruptedPods"])) == (0, ["p"])
    assert now["conditions"][0]["reason"] == "InsufficientPods"


async def test_of_many_at_once_as_many_pass_as_are_allowed(api: ObjectApi) -> None:
    names = [f"p{number}" for number in range(8)]
    for name in names:
        await run(api, name)
    await limit(api, 3)
    results = await asyncio.gather(*(evict(api, name) for name in names), return_exceptions=True)
    assert sum(isinstance(result, errors.TooManyRequests) for result in results) == 5
    pods = (await api.list(PODS)).items
    assert sum("deletionTimestamp" in pod["metadata"] for pod in pods) == 3


@pytest.mark.parametrize(
    ("allowed", "more", "cause"),
    [
        (0, {"currentHealthy": 1, "desiredHealthy": 2}, "needs 2 healthy pods and has 1 currently"),
        (0, {"currentHealthy": 3, "desiredHealthy": 2}, "does not allow evicting pods currently"),
        (1, {"observedGeneration": 0}, "is still being processed by the server."),
        (
            0,
            {"conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
                             "message": "no controllers", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            "does not allow evicting pods currently because it failed sync: no controllers",
        ),
    ],
)  # fmt: skip
async def test_a_refusal_says_why(api: ObjectApi, allowed: int, more: dict[str, Any], cause: str) -> None:
    await run(api, "p")
    await limit(api, allowed, **more)
    with pytest.raises(errors.TooManyRequests) as caught:
        await evict(api, "p")
    assert caught.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
    [said] = caught.value.details["causes"]
    assert said == {"reason": "DisruptionBudget", "message": f"The disruption budget b {cause}"}
    assert "deletionTimestamp" not in (await api.get(PODS, "p", "default"))["metadata"]


async def test_what_disrupts_nothing_takes_nothing(api: ObjectApi) -> None:
    await limit(api, 0, currentHealthy=2, desiredHealthy=2)
    for name, phase in (("pending", "Pending"), ("ended", "Failed"), ("broken", "Running")):
        await run(api, name, ready=False, phase=phase)
        await evict(api, name)
    assert "disruptedPods" not in await status(api)


async def test_one_that_is_not_ready_waits_for_those_that_are(api: ObjectApi) -> None:
    await run(api, "p", ready=False)
    await limit(api, 0, currentHealthy=1, desiredHealthy=2)
    with pytest.raises(errors.TooManyRequests):
        await evict(api, "p")


async def test_unless_the_budget_lets_it_go(api: ObjectApi) -> None:
    await run(api, "p", ready=False)
    spec = {"minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    await limit(api, 0, currentHealthy=1, desiredHealthy=2, spec=spec)
    assert (await evict(api, "p"))["metadata"]["deletionTimestamp"]


async def test_two_budgets_for_one_pod_are_not_served(api: ObjectApi) -> None:
    await run(api, "p")
    await limit(api, 1)
    await limit(api, 1, "c")
    with pytest.raises(errors.InternalError, match="more than one PodDisruptionBudget"):
        await evict(api, "p")


async def test_budgets_of_others_do_not_matter(api: ObjectApi) -> None:
    await run(api, "p")
    await limit(api, 0, spec={"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}})
    assert (await evict(api, "p"))["metadata"]["deletionTimestamp"]


async def test_a_dry_run_and_another_pod_take_nothing(api: ObjectApi) -> None:
    await run(api, "p")
    await limit(api, 1)
    await evict(api, "p", WriteOptions(dry_run=True))
    with pytest.raises(errors.Conflict):
        await evict(api, "p", uid="another")
    assert (await status(api))["disruptionsAllowed"] == 1
