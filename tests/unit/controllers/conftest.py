"""Builders of what the controllers read, and a yard's own API to run them against."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson
import pytest

from gpuyard import errors
from gpuyard.client.informer import Informer
from gpuyard.controllers.job.view import JobView
from gpuyard.controllers.owned_pods.view import PodView
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import EVENTS, JOBS, NAMESPACES, NODES, PODS, Manifest, ObjectKey, Resource
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store
from tests.waiting import until_async

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = NOW
        self._seconds = 0.0

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """As a clock without a date has it."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self._seconds += seconds

    def set_by(self, seconds: float) -> None:
        """Somebody sets the date; no time passes."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_job() -> Callable[..., JobView]:
    """A JobView that wants one completion, with the given fields changed."""

    def make(**changes: Any) -> JobView:
        fields: dict[str, Any] = {
            "uid": "job-1", "parallelism": 1, "completions": 1, "backoff_limit": 6, "indexed": False,
            "suspended": False, "deadline_s": None, "ttl_s": None, "restarts_in_place": False,
            "replaces_only_failed": False, "managed": True, "deleting": False, "started_at": NOW,
            "succeeded": 0, "failed": 0, "completed_indexes": "", "uncounted_succeeded": (),
            "uncounted_failed": (), "status": {},
        }  # fmt: skip
        return JobView(**(fields | changes))

    return make


@pytest.fixture
def make_pod() -> Callable[..., PodView]:
    """A running, tracked PodView named by its first argument, with the given fields changed."""

    def make(name: str, phase: str = "Running", **changes: Any) -> PodView:
        fields: dict[str, Any] = {
            "key": ObjectKey("default", name), "uid": name, "phase": phase, "ready": False,
            "deleting": False, "tracked": True, "finalizers": (), "scheduled": True, "index": None,
            "restarts": 0, "created_at": "2026-01-31T11:59:00Z",
            "finished_at": NOW if phase in ("Succeeded", "Failed") else None,
        }  # fmt: skip
        return PodView(**(fields | changes))

    return make


class Runnable(Protocol):
    async def run(self) -> None: ...


class Yard:
    """The API over a store in a folder of the test's own, and informers of every kind."""

    def __init__(self, api: ObjectApi) -> None:
        self.api = api
        self.clock = api.clock
        self.informers = self.new_informers()
        self._tasks: list[asyncio.Future[None]] = []

    def new_informers(self) -> dict[Resource, Informer]:
        return {kind.resource: Informer(self.api, kind.resource) for kind in yard_kinds()}

    @contextlib.asynccontextmanager
    async def running(self, *controllers: Runnable) -> AsyncIterator[None]:
        """The informers and these controllers, until the block ends. A failure of one fails the test."""
        self._tasks = [asyncio.ensure_future(part.run()) for part in (*self.informers.values(), *controllers)]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.informers = self.new_informers()
        self._raise_failure()

    def _raise_failure(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and (failure := task.exception()):
                raise failure

    async def until(self, holds: Callable[[], Any], what: str = "") -> None:
        """Waits for a condition over the store; a controller's failure is raised at once."""

        def look() -> Any:
            self._raise_failure()
            return holds()

        await until_async(look, what or inspect.getsource(holds).strip())

    def objects(self, resource: Resource, namespace: str | None = None) -> list[dict[str, Any]]:
        """Everything of one resource as stored now."""
        return [orjson.loads(s.value) for s in self.api.store.list(resource.qualified, namespace)[0]]

    def object(self, resource: Resource, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """One object as stored now."""
        for item in self.objects(resource, namespace if resource.namespaced else None):
            if item["metadata"]["name"] == name:
                return item
        return None

    def node(self, name: str) -> dict[str, Any]:
        """The node as stored now."""
        found = self.object(NODES, name)
        assert found is not None
        return found

    # -- Jobs ---------------------------------------------------------------------------------------

    def a_job(self, name: str = "train", **spec: Any) -> dict[str, Any]:
        """A Job of one pod that runs `true`, with these fields in its spec."""
        container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
        pod = {"containers": [container], "restartPolicy": "Never", "runtimeClassName": "gpuyard-process"}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"template": {"spec": pod}, **spec},
        }

    def job(self, name: str = "train") -> dict[str, Any]:
        """The Job as stored now."""
        return {"status": {}} | (self.object(JOBS, name) or {})

    def job_is(self, condition: str) -> bool:
        """Whether the Job `train` has this condition."""
        return condition_is_true(self.job(), condition)

    def pods(self, *phases: str) -> list[dict[str, Any]]:
        """The pods, or those in one of these phases."""
        return [pod for pod in self.objects(PODS) if not phases or pod["status"]["phase"] in phases]

    def reasons(self) -> list[str]:
        """Of all events."""
        return sorted(event["reason"] for event in self.objects(EVENTS))

    def kubelet(self, outcome: Callable[[Manifest], str | None]) -> Kubelet:
        """A kubelet that ends pods as `outcome` says; None leaves them running."""
        return Kubelet(self, outcome)

    async def touch(self, value: str) -> None:
        """Makes the controller look at the Job `train` again, as a timer would."""
        patch = {"metadata": {"annotations": {"touched": value}}}
        await self.api.patch(JOBS, "train", patch, "default")

    async def end_pod(self, pod: Manifest, phase: str) -> None:
        """Writes the pod's phase, with the time at which its container ended."""
        status: dict[str, Any] = {"phase": phase}
        if phase in ("Succeeded", "Failed"):
            at = format_time(self.clock())
            ended = {"exitCode": int(phase == "Failed"), "startedAt": at, "finishedAt": at}
            container = {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
            status["containerStatuses"] = [{**container, "state": {"terminated": ended}}]
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        await self.api.patch(PODS, name, {"status": status}, namespace, subresource="status")


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
                    await self._yard.end_pod(pod, wanted)


@pytest.fixture
async def yard(tmp_path: Path, clock: Clock) -> AsyncIterator[Yard]:
    store = await Store.open(tmp_path / "yard.db", synchronous="OFF")
    api = ObjectApi(store, yard_kinds(), clock=clock)
    await api.bootstrap()
    assert api.store.get(NAMESPACES.qualified, ObjectKey("", "default"))
    yield Yard(api)
    await store.close()
