"""Builders of what the controllers read, and a yard's own API to run them against."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson
import pytest

from gpuyard.client.informer import Informer
from gpuyard.kube.objects import NAMESPACES, ObjectKey, Resource
from gpuyard.local.api.kinds import ALL_KINDS
from gpuyard.local.api.objects import ObjectApi
from gpuyard.local.controllers.job_view import JobView, PodView
from gpuyard.local.store import Store

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
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
        return {kind.resource: Informer(self.api, kind.resource) for kind in ALL_KINDS}

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
        """Waits for a condition over the store; it fails the test after 20 s."""
        try:
            async with asyncio.timeout(20):
                while not holds():
                    self._raise_failure()
                    await asyncio.sleep(0.005)
        except TimeoutError:
            pytest.fail(f"never came true: {what or holds}")

    def objects(self, resource: Resource, namespace: str | None = None) -> list[dict[str, Any]]:
        """Everything of one resource as stored now."""
        return [orjson.loads(s.value) for s in self.api.store.list(resource.qualified, namespace)[0]]

    def object(self, resource: Resource, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """One object as stored now."""
        for item in self.objects(resource, namespace if resource.namespaced else None):
            if item["metadata"]["name"] == name:
                return item
        return None


@pytest.fixture
async def yard(tmp_path: Path, clock: Clock) -> AsyncIterator[Yard]:
    store = await Store.open(tmp_path / "yard.db", synchronous="OFF")
    api = ObjectApi(store, clock=clock)
    await api.bootstrap()
    assert api.store.get(NAMESPACES.qualified, ObjectKey("", "default"))
    yield Yard(api)
    await store.close()
