"""The Job controller when events come late, and when it dies between any two writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from gpuyard.client.api import KubeApi, WatchEvent
from gpuyard.client.informer import Informer
from gpuyard.controllers.job.controller import JobController
from gpuyard.kube.objects import EVENTS, JOBS, PODS, Manifest, Resource

# The fixture `yard` is of conftest's class, which test files can't import.
Yard = Any


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
    async with yard.running(JobController(yard.api, yard.clock, yard.informers[JOBS], pods), pods):
        await yard.api.create(JOBS, yard.a_job(completions=3, parallelism=3))
        await yard.until(lambda: len(yard.pods()) == 3)
        for number in range(5):
            await yard.touch(str(number))
        await yard.until(lambda: yard.job()["status"].get("active") == 3)
        # An outcome that it can't see yet is not counted, and nothing is made in its place.
        await yard.end_pod(yard.pods()[0], "Succeeded")
        await yard.touch("last")
        await yard.api.create(JOBS, yard.a_job("second"))
        await yard.until(lambda: len(yard.pods()) == 4)
        assert len([p for p in yard.pods() if p["metadata"]["name"].startswith("train-")]) == 3
        late.gate.set()
        await yard.until(lambda: yard.job()["status"].get("succeeded") == 1)
    assert len(yard.pods()) == 4


async def test_a_late_view_of_the_job_stops_nothing(yard: Yard) -> None:
    """The controller goes on from what it wrote itself."""
    await yard.api.create(JOBS, yard.a_job(completions=2, parallelism=1))
    late: Any = LateApi(yard.api)
    jobs = Informer(late, JOBS)
    slow = JobController(yard.api, yard.clock, jobs, yard.informers[PODS], rng=random.Random(1))
    async with yard.running(slow, jobs, yard.kubelet(lambda pod: "Succeeded")):
        await yard.until(lambda: yard.job_is("Complete"))
    assert yard.job()["status"]["succeeded"] == 2
    assert len(yard.pods()) == 2


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

    await yard.api.create(JOBS, yard.a_job(completions=2, parallelism=1))
    dying: Any = DyingApi(yard.api, writes, after=after)
    first = JobController(
        dying, yard.clock, yard.informers[JOBS], yard.informers[PODS], backoff_s=0.0, rng=random.Random(1)
    )
    async with yard.running(first, yard.kubelet(first_fails)):
        await yard.until(lambda: dying.died.is_set() or yard.job_is("Complete"))
    second = JobController(yard.api, yard.clock, yard.informers[JOBS], yard.informers[PODS], backoff_s=0.0)
    async with yard.running(second, yard.kubelet(first_fails)):
        await yard.until(lambda: yard.job_is("Complete"))
    status: Mapping[str, Any] = yard.job()["status"]
    assert (status["succeeded"], status["failed"]) == (2, 1)
    assert status["uncountedTerminatedPods"] == {}
    assert len(yard.pods()) == 3
    assert all(not pod["metadata"].get("finalizers") for pod in yard.pods())
