"""The Job controller against the yard's own API, with a kubelet that only writes what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.api import KubeApi, Propagation, WatchEvent
from gpuyard.client.informer import Informer
from gpuyard.kube.conditions import condition_is_true, find_condition
from gpuyard.kube.objects import EVENTS, JOBS, PODS, Manifest, Resource, annotations_of
from gpuyard.kube.timestamps import format_time
from gpuyard.local.controllers.garbage import GarbageCollector
from gpuyard.local.controllers.job import JobController

# The fixture `yard` and its `clock` are of conftest's classes, which test files can't import.
Yard = Any
FINALIZER = "batch.kubernetes.io/job-tracking"


def a_job(name: str = "train", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    pod = {"containers": [container], "restartPolicy": "Never", "runtimeClassName": "gpuyard-process"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": pod}, **spec},
    }


class Kubelet:
    """Ends pods as `outcome` says (None: leaves them running), and stops deleted ones."""

    def __init__(self, yard: Yard, outcome: Callable[[Manifest], str | None]) -> None:
        self._yard = yard
        self._outcome = outcome
        self._todo: asyncio.Queue[Manifest] = asyncio.Queue()
        self.most_active = 0
        self._active: set[str] = set()
        yard.informers[PODS].add_handler(self._on_pod)

    def _on_pod(self, _old: Manifest | None, new: Manifest | None) -> None:
        if new is None:
            return
        uid, phase = new["metadata"]["uid"], new.get("status", {}).get("phase")
        if phase in ("Succeeded", "Failed") or new["metadata"].get("deletionTimestamp"):
            self._active.discard(uid)
        else:
            self._active.add(uid)
        self.most_active = max(self.most_active, len(self._active))
        self._todo.put_nowait(new)

    async def run(self) -> None:
        while True:
            pod = await self._todo.get()
            phase = pod.get("status", {}).get("phase")
            if phase in ("Succeeded", "Failed"):
                continue
            wanted = "Failed" if pod["metadata"].get("deletionTimestamp") else self._outcome(pod)
            if wanted is None and phase == "Pending":
                wanted = "Running"
            if wanted is not None and wanted != phase:
                with contextlib.suppress(errors.NotFound):
                    await end_pod(self._yard, pod, wanted)


async def end_pod(yard: Yard, pod: Manifest, phase: str) -> None:
    """Writes the pod's phase, with the time at which its container ended."""
    status: dict[str, Any] = {"phase": phase}
    if phase in ("Succeeded", "Failed"):
        code, at = int(phase == "Failed"), format_time(yard.clock())
        ended = {"exitCode": code, "startedAt": at, "finishedAt": at}
        status["containerStatuses"] = [
            {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
            | {"state": {"terminated": ended}}
        ]
    await yard.api.patch(
        PODS, pod["metadata"]["name"], {"status": status}, pod["metadata"]["namespace"], subresource="status"
    )


def controller(yard: Yard, **options: Any) -> JobController:
    return JobController(
        options.pop("api", yard.api),
        yard.clock,
        yard.informers[JOBS],
        options.pop("pods", yard.informers[PODS]),
        rng=random.Random(1),
        **options,
    )


def job_now(yard: Yard, name: str = "train") -> dict[str, Any]:
    return {"status": {}} | (yard.object(JOBS, name) or {})


def has(yard: Yard, condition: str) -> Callable[[], bool]:
    return lambda: condition_is_true(job_now(yard), condition)


def pods_now(yard: Yard, *phases: str) -> list[dict[str, Any]]:
    return [pod for pod in yard.objects(PODS) if not phases or pod["status"]["phase"] in phases]


def reasons(yard: Yard) -> list[str]:
    return sorted(event["reason"] for event in yard.objects(EVENTS))


async def touch(yard: Yard, value: str) -> None:
    """Makes the controller look at the Job again, as a timer would."""
    await yard.api.patch(JOBS, "train", {"metadata": {"annotations": {"touched": value}}}, "default")


async def test_a_pod_that_succeeds_completes_its_job(yard: Yard) -> None:
    async with yard.running(controller(yard), Kubelet(yard, lambda pod: "Succeeded")):
        await yard.api.create(JOBS, a_job())
        await yard.until(has(yard, "Complete"))
        await yard.until(lambda: "Completed" in reasons(yard))
    status = job_now(yard)["status"]
    conditions = status.pop("conditions")
    assert status == {
        "ready": 0,
        "terminating": 0,
        "succeeded": 1,
        "uncountedTerminatedPods": {},
        "startTime": "2026-01-31T12:00:00Z",
        "completionTime": "2026-01-31T12:00:00Z",
    }
    assert [c["type"] for c in conditions] == ["SuccessCriteriaMet", "Complete"]
    [pod] = pods_now(yard)
    assert FINALIZER not in pod["metadata"].get("finalizers", [])
    assert reasons(yard) == ["Completed", "SuccessfulCreate"]


async def test_a_finished_job_is_left_alone(yard: Yard) -> None:
    async with yard.running(controller(yard), Kubelet(yard, lambda pod: "Succeeded")):
        await yard.api.create(JOBS, a_job())
        await yard.until(lambda: "Completed" in reasons(yard))
        revision = job_now(yard)["metadata"]["resourceVersion"]
        await yard.api.create(JOBS, a_job("second"))
        await yard.until(lambda: reasons(yard).count("Completed") == 2)
    assert job_now(yard)["metadata"]["resourceVersion"] == revision


async def test_a_hundred_pods_twenty_at_a_time(yard: Yard) -> None:
    kubelet = Kubelet(yard, lambda pod: "Succeeded")
    async with yard.running(controller(yard), kubelet):
        await yard.api.create(JOBS, a_job(completions=100, parallelism=20))
        await yard.until(has(yard, "Complete"))
    assert job_now(yard)["status"]["succeeded"] == 100
    assert len(pods_now(yard)) == 100
    assert 2 <= kubelet.most_active <= 20


async def test_a_failed_pod_is_tried_again_after_a_while(yard: Yard, clock: Any) -> None:
    async with yard.running(controller(yard, backoff_s=0.02), Kubelet(yard, lambda pod: "Failed")):
        await yard.api.create(JOBS, a_job(backoffLimit=1))
        await yard.until(lambda: job_now(yard)["status"].get("failed") == 1)
        await touch(yard, "1")
        await yard.until(lambda: len(yard.informers[JOBS].objects) == 1)
        assert len(pods_now(yard)) == 1
        clock.advance(1)
        await yard.until(lambda: len(pods_now(yard)) == 2)
        await yard.until(has(yard, "Failed"))
        await yard.until(lambda: "BackoffLimitExceeded" in reasons(yard))
    assert job_now(yard)["status"]["failed"] == 2
    failed = find_condition(job_now(yard), "Failed") or {}
    assert failed["message"] == "Job has reached the specified backoff limit"


async def test_a_failed_job_stops_its_other_pods_before_it_says_so(yard: Yard) -> None:
    async with yard.running(controller(yard), Kubelet(yard, lambda pod: None)):
        await yard.api.create(JOBS, a_job(completions=3, parallelism=3, backoffLimit=0))
        await yard.until(lambda: len(pods_now(yard, "Running")) == 3)
        for pod in pods_now(yard):
            await yard.api.bind("default", pod["metadata"]["name"], "a")
        await end_pod(yard, pods_now(yard)[0], "Failed")
        await yard.until(has(yard, "FailureTarget"))
        # The kubelet has ended them; only now may the Job be over.
        await yard.until(has(yard, "Failed"))
        assert not pods_now(yard, "Running", "Pending")
    assert job_now(yard)["status"]["failed"] == 3


async def test_the_deadline_ends_a_job(yard: Yard, clock: Any) -> None:
    async with yard.running(controller(yard), Kubelet(yard, lambda pod: None)):
        await yard.api.create(JOBS, a_job(activeDeadlineSeconds=60))
        await yard.until(lambda: len(pods_now(yard, "Running")) == 1)
        clock.advance(61)
        await touch(yard, "1")
        await yard.until(has(yard, "Failed"))
    failed = find_condition(job_now(yard), "Failed") or {}
    assert failed["reason"] == "DeadlineExceeded"
    assert failed["message"] == "Job was active longer than specified deadline"


async def test_suspending_stops_pods_without_counting_them(yard: Yard, clock: Any) -> None:
    async with yard.running(controller(yard), Kubelet(yard, lambda pod: None)):
        await yard.api.create(JOBS, a_job(completions=2, parallelism=2, backoffLimit=0))
        await yard.until(lambda: len(pods_now(yard, "Running")) == 2)
        await yard.api.patch(JOBS, "train", {"spec": {"suspend": True}}, "default")
        await yard.until(has(yard, "Suspended"))
        await yard.until(lambda: not pods_now(yard))
        assert "failed" not in job_now(yard)["status"]
        clock.advance(100)
        await yard.api.patch(JOBS, "train", {"spec": {"suspend": False}}, "default")
        await yard.until(lambda: len(pods_now(yard, "Running")) == 2)
        await yard.until(lambda: not condition_is_true(job_now(yard), "Suspended"))
        assert job_now(yard)["status"]["startTime"] == format_time(clock())
        await yard.until(lambda: "Resumed" in reasons(yard))
    assert {"Suspended", "Resumed", "SuccessfulDelete"} <= set(reasons(yard))


async def test_an_indexed_job_completes_each_index_once(yard: Yard, clock: Any) -> None:
    tried: list[str] = []

    def first_try_of_one_fails(pod: Manifest) -> str:
        index = annotations_of(pod)["batch.kubernetes.io/job-completion-index"]
        tried.append(index)
        return "Failed" if index == "1" and tried.count("1") == 1 else "Succeeded"

    async with yard.running(controller(yard, backoff_s=0.0), Kubelet(yard, first_try_of_one_fails)):
        await yard.api.create(JOBS, a_job(completions=4, parallelism=2, completionMode="Indexed"))
        await yard.until(has(yard, "Complete"))
    status = job_now(yard)["status"]
    assert (status["completedIndexes"], status["succeeded"], status["failed"]) == ("0-3", 4, 1)
    assert sorted(pod["spec"]["hostname"] for pod in pods_now(yard)) == [
        "train-0", "train-1", "train-1", "train-2", "train-3",
    ]  # fmt: skip


async def test_a_pod_that_someone_deletes_is_counted_and_replaced(yard: Yard) -> None:
    async with yard.running(controller(yard), Kubelet(yard, lambda pod: None)):
        await yard.api.create(JOBS, a_job())
        await yard.until(lambda: len(pods_now(yard, "Running")) == 1)
        [first] = pods_now(yard)
        await yard.api.delete(PODS, first["metadata"]["name"], "default")
        await yard.until(lambda: job_now(yard)["status"].get("failed") == 1)
        await yard.until(
            lambda: (
                [p["metadata"]["uid"] for p in pods_now(yard, "Running")]
                not in ([], [first["metadata"]["uid"]])
            )
        )


async def test_pods_of_a_deleted_job_go(yard: Yard) -> None:
    parts = (controller(yard), Kubelet(yard, lambda pod: None), GarbageCollector(yard.api, yard.informers))
    async with yard.running(*parts):
        for propagation in (Propagation.BACKGROUND, Propagation.FOREGROUND):
            await yard.api.create(JOBS, a_job(completions=3, parallelism=3))
            await yard.until(lambda: len(pods_now(yard, "Running")) == 3)
            await yard.api.delete(JOBS, "train", "default", propagation=propagation)
            await yard.until(lambda: not pods_now(yard) and not yard.objects(JOBS))


async def test_orphaned_pods_stay_without_the_finalizer(yard: Yard) -> None:
    parts = (controller(yard), Kubelet(yard, lambda pod: None), GarbageCollector(yard.api, yard.informers))
    async with yard.running(*parts):
        await yard.api.create(JOBS, a_job())
        await yard.until(lambda: len(pods_now(yard, "Running")) == 1)
        await yard.api.delete(JOBS, "train", "default", propagation=Propagation.ORPHAN)
        await yard.until(lambda: not yard.objects(JOBS))
        await yard.until(lambda: all(not p["metadata"].get("finalizers") for p in pods_now(yard)))
    [pod] = pods_now(yard)
    assert not pod["metadata"].get("ownerReferences")


async def test_a_finished_job_is_deleted_when_its_time_is_over(yard: Yard) -> None:
    parts = (controller(yard), Kubelet(yard, lambda pod: "Succeeded"))
    async with yard.running(*parts, GarbageCollector(yard.api, yard.informers)):
        await yard.api.create(JOBS, a_job(ttlSecondsAfterFinished=0))
        await yard.until(lambda: "Completed" in reasons(yard))
        await yard.until(lambda: not yard.objects(JOBS) and not pods_now(yard))


async def test_a_job_of_another_controller_is_left_alone(yard: Yard) -> None:
    async with yard.running(controller(yard), Kubelet(yard, lambda pod: "Succeeded")):
        await yard.api.create(JOBS, a_job("other", managedBy="example.com/other"))
        await yard.api.create(JOBS, a_job())
        await yard.until(has(yard, "Complete"))
    assert job_now(yard, "other").get("status", {}) == {}
    assert len(pods_now(yard)) == 1


class LateApi:
    """Holds watch events back until it is told to let them through."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self.gate = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def watch(self, resource: Resource, *args: Any, **kwargs: Any) -> AsyncIterator[WatchEvent]:
        async for event in self._api.watch(resource, *args, **kwargs):
            await self.gate.wait()
            yield event


async def test_a_late_informer_makes_no_pod_twice(yard: Yard) -> None:
    late: Any = LateApi(yard.api)
    pods = Informer(late, PODS)
    async with yard.running(controller(yard, pods=pods), pods):
        await yard.api.create(JOBS, a_job(completions=3, parallelism=3))
        await yard.until(lambda: len(pods_now(yard)) == 3)
        for number in range(5):
            await touch(yard, str(number))
        await yard.until(lambda: job_now(yard)["status"].get("active") == 3)
        # An outcome that it can't see yet is not counted, and nothing is made in its place.
        await end_pod(yard, pods_now(yard)[0], "Succeeded")
        await touch(yard, "last")
        await yard.api.create(JOBS, a_job("second"))
        await yard.until(lambda: len(pods_now(yard)) == 4)
        assert len([p for p in pods_now(yard) if p["metadata"]["name"].startswith("train-")]) == 3
        late.gate.set()
        await yard.until(lambda: job_now(yard)["status"].get("succeeded") == 1)
    assert len(pods_now(yard)) == 4


async def test_a_late_view_of_the_job_stops_nothing(yard: Yard) -> None:
    """The controller goes on from what it wrote itself."""
    await yard.api.create(JOBS, a_job(completions=2, parallelism=1))
    late: Any = LateApi(yard.api)
    jobs = Informer(late, JOBS)
    slow = JobController(yard.api, yard.clock, jobs, yard.informers[PODS], rng=random.Random(1))
    async with yard.running(slow, jobs, Kubelet(yard, lambda pod: "Succeeded")):
        await yard.until(has(yard, "Complete"))
    assert job_now(yard)["status"]["succeeded"] == 2
    assert len(pods_now(yard)) == 2


class DyingApi:
    """Lets so many writes through and hangs before or after the next, as if the process had died."""

    def __init__(self, api: KubeApi, writes: int, *, after: bool) -> None:
        self._api = api
        self._left = writes
        self._after = after
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._api, name)
        return self._counting(call) if name in ("create", "update", "patch", "delete") else call

    def _counting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def write(resource: Resource, *args: Any, **kwargs: Any) -> Any:
            if resource == EVENTS:
                return await call(resource, *args, **kwargs)
            self._left -= 1
            if self._left >= 0:
                return await call(resource, *args, **kwargs)
            if self._left == -1 and self._after:
                await call(resource, *args, **kwargs)
            self.died.set()
            return await asyncio.Event().wait()

        return write


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("writes", range(13))
async def test_a_crash_at_any_write_loses_and_doubles_nothing(yard: Yard, writes: int, after: bool) -> None:
    """Two completions and one failure take three pods, wherever the controller dies on the way."""

    seen: list[str] = []

    def first_fails(pod: Manifest) -> str:
        seen.append(pod["metadata"]["uid"])
        return "Failed" if pod["metadata"]["uid"] == seen[0] else "Succeeded"

    await yard.api.create(JOBS, a_job(completions=2, parallelism=1))
    dying: Any = DyingApi(yard.api, writes, after=after)
    first = JobController(
        dying, yard.clock, yard.informers[JOBS], yard.informers[PODS], backoff_s=0.0, rng=random.Random(1)
    )
    async with yard.running(first, Kubelet(yard, first_fails)):
        await yard.until(lambda: dying.died.is_set() or has(yard, "Complete")())
    second = controller(yard, backoff_s=0.0)
    async with yard.running(second, Kubelet(yard, first_fails)):
        await yard.until(has(yard, "Complete"))
    status: Mapping[str, Any] = job_now(yard)["status"]
    assert (status["succeeded"], status["failed"]) == (2, 1)
    assert status["uncountedTerminatedPods"] == {}
    assert len(pods_now(yard)) == 3
    assert all(not pod["metadata"].get("finalizers") for pod in pods_now(yard))
