"""Stopping and removing runs, against the yard's API on a real socket; the tests are its controllers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.api import Propagation
from gpuyard.kube.objects import JOBS, PODS
from gpuyard.runs.run import find_run
from gpuyard.runs.stopping import remove_run, stop_run, wait_until_ended
from gpuyard.runs.target import Target

from .conftest import CountingApi

NOW = "2026-01-31T12:00:00Z"
CONTAINER = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
POD_SPEC = {"runtimeClassName": "gpuyard-process", "restartPolicy": "Never", "containers": [CONTAINER]}
LABELS = {"gpuyard.io/run": "a"}


async def goes_on(target: Target, task: asyncio.Task[Any]) -> None:
    """Returns when the task has looked at the present state and looks again."""
    assert isinstance(target.api, CountingApi)
    while not target.api.looks.empty():
        target.api.looks.get_nowait()
    for _ in range(3):
        await asyncio.wait_for(target.api.looks.get(), 60)
    assert not task.done()


async def make_job(target: Target) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": POD_SPEC}
    job = {"metadata": {"name": "a", "labels": LABELS}, "spec": {"backoffLimit": 3, "template": template}}
    return dict(await target.api.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", **job}, "default"))


async def make_pod(target: Target, job: dict[str, Any], name: str, phase: str, *, started: bool) -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": job["metadata"]["uid"]}
    metadata = {"name": name, "labels": LABELS, "ownerReferences": [owner | {"controller": True}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": POD_SPEC}
    await target.api.create(PODS, pod, "default")
    await set_status(target, name, phase=phase, **({"startTime": NOW} if started else {}))


async def set_status(target: Target, pod: str, **status: Any) -> None:
    await target.api.patch(PODS, pod, {"status": status}, "default", subresource="status")


async def end_job(target: Target) -> None:
    failed = [
        {"type": type_, "status": "True", "reason": "BackoffLimitExceeded"}
        for type_ in ("FailureTarget", "Failed")
    ]
    status = {"startTime": NOW, "conditions": failed, "failed": 1}
    await target.api.patch(JOBS, "a", {"status": status}, "default", subresource="status")


async def spec(target: Target, pod: str = "") -> dict[str, Any]:
    found = await (target.api.get(PODS, pod, "default") if pod else target.api.get(JOBS, "a", "default"))
    return dict(found["spec"])


async def test_started_pods_get_a_deadline_and_the_job_no_more_attempts(target: Target) -> None:
    job = await make_job(target)
    await make_pod(target, job, "old", "Failed", started=True)
    await make_pod(target, job, "live", "Running", started=True)
    assert await stop_run(target, "a")
    assert (await spec(target))["backoffLimit"] == 1
    assert (await spec(target, "live"))["activeDeadlineSeconds"] == 1
    assert "activeDeadlineSeconds" not in await spec(target, "old")
    stopped = (await target.api.get(JOBS, "a", "default"))["metadata"]["annotations"]
    assert stopped["gpuyard.io/stopped-at"]


async def test_a_run_that_has_not_started_is_suspended(target: Target) -> None:
    job = await make_job(target)
    await make_pod(target, job, "waiting", "Pending", started=False)
    assert await stop_run(target, "a")
    assert (await spec(target))["suspend"] is True
    assert "activeDeadlineSeconds" not in await spec(target, "waiting")


async def test_what_has_ended_is_not_stopped(target: Target) -> None:
    job = await make_job(target)
    await make_pod(target, job, "old", "Failed", started=True)
    await end_job(target)
    before = await target.api.get(JOBS, "a", "default")
    assert not await stop_run(target, "a")
    assert await target.api.get(JOBS, "a", "default") == before


async def test_a_run_that_is_not_there_is_named(target: Target) -> None:
    await make_job(target)
    with pytest.raises(errors.UsageError, match="no run 'b'") as caught:
        await stop_run(target, "b")
    assert "a" in caught.value.message + caught.value.remedy


async def test_it_waits_for_the_last_process_of_a_stopped_run(target: Target) -> None:
    job = await make_job(target)
    await make_pod(target, job, "live", "Running", started=True)
    await stop_run(target, "a")
    waiting = asyncio.create_task(wait_until_ended(target, "a"), name="waiting")
    await end_job(target)
    # A Job may be Failed while its process is still ending: that one holds its GPUs.
    await goes_on(target, waiting)
    await set_status(target, "live", phase="Failed")
    run = await asyncio.wait_for(waiting, 60)
    assert run.state.state == "stopped" and [pod["metadata"]["name"] for pod in run.pods] == ["live"]


async def test_a_run_is_removed_once_its_pods_are_gone(target: Target) -> None:
    job = await make_job(target)
    await make_pod(target, job, "live", "Running", started=True)
    removing = asyncio.create_task(remove_run(target, await find_run(target, "a")), name="removing")
    await goes_on(target, removing)
    with pytest.raises(errors.NotFound):
        await target.api.get(JOBS, "a", "default")
    await target.api.delete(PODS, "live", "default", grace_period_s=0)
    await asyncio.wait_for(removing, 60)


async def test_another_run_of_the_same_name_is_left_alone(target: Target) -> None:
    """Between finding and removing it, somebody may have replaced it."""
    await make_job(target)
    found = await find_run(target, "a")
    await target.api.delete(JOBS, "a", "default", propagation=Propagation.BACKGROUND)
    job = await make_job(target)
    await make_pod(target, job, "new", "Running", started=True)
    await asyncio.wait_for(remove_run(target, found), 60)
    assert (await find_run(target, "a")).job["metadata"]["uid"] == job["metadata"]["uid"]
    # One that is gone altogether is removed, too.
    await asyncio.wait_for(remove_run(target, found), 60)
