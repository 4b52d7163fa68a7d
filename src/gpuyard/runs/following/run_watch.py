"""One run, kept current by watches."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from gpuyard import errors
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import JOBS, PODS, Manifest, uid_of
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.following.pod_log import AWAY_S
from gpuyard.runs.run import Run, has_ended, make_run
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import Reason

_CHECK_S = 1.0
#: What a Job without pods says when it knows no more than that they are gone.
_SAYS_LITTLE = (Reason.WAITING_FOR_POD, Reason.JOB_FAILED, Reason.COMPLETED)


class RunWatch:
    """Owns the watches of one run; `change` waits for the next thing that happens to it."""

    def __init__(self, target: Target, name: str) -> None:
        """Asks for nothing before `watching`."""
        selector = f"{LABEL_RUN}={name}"
        self.name = name
        self._jobs = Informer(target.api, JOBS, namespace=target.namespace, label_selector=selector)
        self._pods = Informer(target.api, PODS, namespace=target.namespace, label_selector=selector)
        self._changed = asyncio.Event()
        self._synced = 0
        self._away_since: float | None = None
        self._job_uid = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._gone: dict[str, Manifest] = {}
        self._pods.add_handler(self._keep_gone)
        for informer in (self._jobs, self._pods):
            informer.add_handler(lambda old, new: self._changed.set())

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keeps the run current inside the block; `is_synced` says from when on."""
        # No TaskGroup: it would wrap what the block raises into an ExceptionGroup.
        informers = (self._jobs, self._pods)
        tasks = self._tasks = [
            asyncio.create_task(i.run(), name=f"watch {i.resource.plural}") for i in informers
        ]
        tasks += [
            asyncio.create_task(self._count(i), name=f"first list of {i.resource.plural}") for i in informers
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_synced(self) -> bool:
        """Whether the run was read at all."""
        return self._synced == 2

    @property
    def is_away(self) -> bool:
        """Whether the API doesn't answer, so that the run is as it was before."""
        return self._away_since is not None

    @property
    def run(self) -> Run:
        """The run as it is now, or was when the API answered last.

        Raises:
            GpuyardError: somebody removed it, be it to put another of this name in its place.
        """
        for job in self._jobs.objects.values():
            if self._job_uid not in ("", uid_of(job)):
                break
            self._job_uid = uid_of(job)
            run = make_run(job, list(self._pods.objects.values()))
            if run.pods or not self._gone or run.state.reason not in _SAYS_LITTLE:
                return run
            # Its last pod, as it was seen last, says what it waits for, or why it ended so soon.
            ended = list(self._gone.values())
            if run.state.reason is not Reason.COMPLETED:
                ended = [{**pod, "status": {**pod["status"], "phase": "Failed"}} for pod in ended]
            return replace(run, state=make_run(job, ended).state)
        raise errors.GpuyardError(f"{self.name} was removed while it was followed")

    @property
    def gone(self) -> list[Manifest]:
        """Pods that were there and are deleted, as they were last."""
        return list(self._gone.values())

    def _keep_gone(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is None and old is not None:
            self._gone[uid_of(old)] = old

    async def change(self, within_s: float = math.inf) -> bool:
        """Waits until the run changes, or the API goes away or comes back; False when nothing did in time.

        Raises:
            ConnectionFailed: the API has been away for a minute.
            Unauthorized, Forbidden: the API refuses.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + within_s
        while not self._changed.is_set():
            was_away = self.is_away
            self._check_api()
            left = due - loop.time()
            if self.is_away != was_away:
                return True
            if left <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, _CHECK_S))
        self._changed.clear()
        return True

    async def _count(self, informer: Informer) -> None:
        await informer.synced()
        self._synced += 1
        self._changed.set()

    def _check_api(self) -> None:
        """Keeps `is_away`; raises when the API has been away for too long, or refuses."""
        for task in self._tasks:
            if task.done() and (broken := task.exception()):
                raise broken
        failure = self._jobs.failure or self._pods.failure
        if failure is None:
            self._away_since = None
            return
        if isinstance(failure, errors.Unauthorized | errors.Forbidden):
            raise failure
        now = asyncio.get_running_loop().time()
        self._away_since = self._away_since or now
        if now - self._away_since > AWAY_S:
            raise failure


def _unseen(run: Run) -> None:
    """For who wants only the end."""


async def watch_to_end(target: Target, name: str, seen: Callable[[Run], None] = _unseen) -> Run:
    """The run once nothing of it is alive any more.

    Args:
        target: where it is.
        name: its name.
        seen: given the run each time that something of it has changed.

    Raises:
        GpuyardError: somebody removed it.
        ConnectionFailed: the API has been away for a minute.
    """
    watch = RunWatch(target, name)
    async with watch.watching():
        while not (watch.is_synced and has_ended(watch.run)):
            if watch.is_synced:
                seen(watch.run)
            await watch.change()
        return watch.run
