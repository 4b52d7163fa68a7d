"""What a watch makes of a run whose pods are gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpuyard.kube.objects import JOBS, PODS, Manifest
from gpuyard.runs.following.run_watch import RunWatch, watch_to_end
from gpuyard.runs.target import Target

NOW = "2026-01-31T12:00:00Z"
LABELS = {"gpuyard.io/run": "a"}
CONTAINER = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
POD_SPEC = {"runtimeClassName": "gpuyard-process", "restartPolicy": "Never", "containers": [CONTAINER]}
STOPPED = {"gpuyard.io/stopped-at": NOW, "gpuyard.io/stopped-by": "suspending"}


@pytest.fixture
async def pod(target: Target) -> Manifest:
    """The only one of the run a; nobody has placed it."""
    job = {"metadata": {"name": "a", "labels": LABELS}, "spec": {"template": {"spec": POD_SPEC}}}
    made = await target.api.create(JOBS, job, "default")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "controller": True}
    metadata = {
        "name": "a-1",
        "labels": LABELS,
        "ownerReferences": [owner | {"uid": made["metadata"]["uid"]}],
    }
    return await target.api.create(PODS, {"metadata": metadata, "spec": POD_SPEC}, "default")


async def suspend(target: Target, **annotations: Any) -> None:
    """As a stop does, or Kueue; the Job's controller then deletes the pod."""
    patch = {"metadata": {"annotations": annotations}, "spec": {"suspend": True}}
    await target.api.patch(JOBS, "a", patch, "default")
    await target.api.delete(PODS, "a-1", "default", grace_period_s=0)


async def test_a_run_that_is_stopped_before_it_starts_ends(target: Target, pod: Manifest) -> None:
    seen = asyncio.Event()
    ending = asyncio.create_task(watch_to_end(target, "a", lambda run: seen.set()), name="watch")
    await seen.wait()
    await suspend(target, **STOPPED)
    async with asyncio.timeout(60):
        run = await ending
    assert (run.state.state, run.state.reason) == ("stopped", "StoppedByUser")


async def test_a_run_that_is_suspended_waits_whatever_its_last_pod_was_in(
    target: Target, pod: Manifest
) -> None:
    running = {"phase": "Running", "startTime": NOW}
    await target.api.patch(PODS, "a-1", {"status": running}, "default", subresource="status")
    watch = RunWatch(target, "a")
    async with watch.watching(), asyncio.timeout(60):
        while not watch.is_synced or not watch.run.pods:
            await watch.change()
        await suspend(target)
        while watch.run.pods or not watch.run.job["spec"]["suspend"]:
            await watch.change()
        assert (watch.run.state.state, watch.run.state.reason) == ("pending", "Suspended")
