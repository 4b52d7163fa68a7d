"""The Job controller: carries out what `plan` decides and writes what `status` counts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from gpuyard import errors
from gpuyard.client.api import KubeApi, Propagation
from gpuyard.client.events import EventRecorder
from gpuyard.client.informer import Informer
from gpuyard.client.workqueue import WorkQueue
from gpuyard.controllers.job.plan import next_look_s, plan
from gpuyard.controllers.job.pods import pod_of
from gpuyard.controllers.job.status import Account, account, judge, news
from gpuyard.controllers.job.view import JobView, view_job
from gpuyard.controllers.owned_pods.bookkeeping import LOOK_UP_AFTER_S, Bookkeeping
from gpuyard.controllers.owned_pods.books import Books
from gpuyard.controllers.owned_pods.pod_control import PodControl
from gpuyard.controllers.owned_pods.view import IndexFailures, view_pod
from gpuyard.kube.ages import seconds_since_boot
from gpuyard.kube.objects import (
    JOBS,
    Manifest,
    ObjectKey,
    controller_of,
    key_of,
    uid_of,
    with_kind,
)

_WORKERS = 8
_ORPHAN_RECHECK_S = 1.0


class JobController:
    """Makes the pods that Jobs call for, and counts how they end.

    Every Job is named by its key and handled by one worker at a time; different Jobs run in parallel.
    It keeps nothing that it couldn't read from the API again, so it may be stopped at any point.

    Args:
        jobs, pods: informers that someone else runs.
        backoff_s: delay before a pod is made again after one failure; it doubles up to six minutes.
        seconds: a steady clock that goes on in a suspend; see `wake`.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], datetime],
        jobs: Informer,
        pods: Informer,
        *,
        backoff_s: float = 10.0,
        rng: random.Random | None = None,
        seconds: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._api = api
        self._clock = clock
        self._seconds = seconds
        self._jobs = jobs
        self._pods = pods
        self._backoff_s = backoff_s
        self._events = EventRecorder(api, "job-controller", clock)
        self._rng = rng or random.Random()  # noqa: S311 names only
        self._control = PodControl(api, self._events, JOBS)
        self._books = Books(jobs, pods, clock, seconds)
        self._queue: WorkQueue[ObjectKey] = WorkQueue("job", self._sync, jobs.supervisor, jobs.reference)
        self._orphans: WorkQueue[ObjectKey] = WorkQueue(
            "job-orphan", self._release_orphan, pods.supervisor, pods.reference
        )
        jobs.add_handler(self._on_job)
        pods.add_handler(self._on_pod)

    def wake(self) -> None:
        """This process stood still: looks at all Jobs, whose timers are late by that."""
        for key in self._jobs.objects:
            self._queue.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._jobs.synced()
        await self._pods.synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(_WORKERS), name="job-workers")
            group.create_task(self._orphans.run(), name="job-orphans")

    def _on_job(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is not None:
            self._queue.add(key_of(new))
        elif old is not None:
            for key in self._books.note_gone(old):
                self._orphans.add(key)

    def _on_pod(self, old: Manifest | None, new: Manifest | None) -> None:
        for key in self._books.note_pod(old, new):
            self._queue.add(key)
        if new is not None and view_pod(new).tracked and self._books.owner_of(new) is None:
            self._orphans.add(key_of(new))

    async def _sync(self, key: ObjectKey) -> float | None:
        manifest = self._jobs.objects.get(key)
        if manifest is None:
            return None
        book = self._books.of(uid_of(manifest))
        manifest = book.newest(manifest)
        job = view_job(manifest)
        if not job.managed:
            return None
        if job.finished_at is not None:
            return await self._after_end(manifest, job, book, job.finished_at)
        await self._control.look_up(book)
        pods = self._books.pods_of(job.uid)
        todo = plan(job, pods, judge(job, pods, book.age), book.age, self._backoff_s)
        problems = await self._control.delete(manifest, book, todo.delete, counts=todo.counts)
        make = partial(self._pod_of, manifest, todo.failures)
        problems += await self._control.create(manifest, book, todo.create, make)
        manifest = await self._count(manifest, book)
        if problems:
            raise problems[0]
        if book.waiting:
            return LOOK_UP_AFTER_S
        return next_look_s(view_job(manifest), todo, book.age)

    def _pod_of(self, job: Manifest, failures: Mapping[int, IndexFailures], index: int | None) -> Manifest:
        return pod_of(job, index, self._rng, None if index is None else failures.get(index))

    async def _count(self, manifest: Manifest, book: Bookkeeping) -> Manifest:
        """Writes the status; where outcomes are new, releases their pods and writes the counters."""
        while True:
            job, pods = view_job(manifest), self._books.pods_of(uid_of(manifest))
            result = account(job, pods, judge(job, pods, book.age), self._clock())
            manifest = await self._write_status(manifest, book, result)
            if not result.release:
                return manifest
            await self._control.release(book, result.release)

    async def _write_status(self, old: Manifest, book: Bookkeeping, result: Account) -> Manifest:
        if result.status == (old.get("status") or {}):
            return old
        new = await self._api.update(
            JOBS, {**with_kind(JOBS, old), "status": result.status}, subresource="status"
        )
        book.wrote(old, new)
        for type_, reason, message in news(old, result.status):
            await self._events.record(with_kind(JOBS, new), type_, reason, message)
        return new

    async def _after_end(
        self, manifest: Manifest, job: JobView, book: Bookkeeping, finished_at: datetime
    ) -> float | None:
        """Lets go of pods that turned up late, and deletes the Job when its time to live is over."""
        await self._control.release(book, [pod for pod in self._books.pods_of(job.uid) if pod.tracked])
        if job.ttl_s is None or job.deleting:
            return None
        left_s = job.ttl_s - book.age(finished_at)
        if left_s > 0:
            return left_s
        key = key_of(manifest)
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await self._api.delete(
                JOBS, key.name, key.namespace, propagation=Propagation.FOREGROUND, uid=job.uid
            )
        return None

    async def _release_orphan(self, key: ObjectKey) -> float | None:
        """Takes the tracking finalizer off a pod whose Job is gone, so that the pod can go too."""
        manifest = self._pods.objects.get(key)
        if manifest is None or not view_pod(manifest).tracked or self._books.owner_of(manifest) is not None:
            return None
        owner = controller_of(manifest)
        if owner is not None:
            with contextlib.suppress(errors.NotFound):
                job = await self._api.get(JOBS, owner["name"], key.namespace)
                if uid_of(job) == owner["uid"]:
                    return _ORPHAN_RECHECK_S
        await self._control.release(Bookkeeping(self._clock, self._seconds), [view_pod(manifest)])
        return None
