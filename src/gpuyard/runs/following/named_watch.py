"""Objects that belong to one name, kept current by watches."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Sequence

from gpuyard import errors
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import Resource
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.following.pod_log import AWAY_S
from gpuyard.runs.target import Target

_CHECK_S = 1.0


class NamedWatch:
    """Owns the watches of the objects of one run or service; `change` waits for the next thing that happens.

    Args:
        target: where they are.
        name: of the run or service; asks for nothing before `watching`.
        resources: which kinds are followed.
    """

    def __init__(self, target: Target, name: str, resources: Sequence[Resource]) -> None:
        selector = f"{LABEL_RUN}={name}"
        self.name = name
        self.informers = {
            one: Informer(target.api, one, namespace=target.namespace, label_selector=selector)
            for one in resources
        }
        self._changed = asyncio.Event()
        self._synced = 0
        self._away_since: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        for informer in self.informers.values():
            informer.add_handler(lambda old, new: self._changed.set())

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keeps the objects current inside the block; `is_synced` says from when on."""
        # No TaskGroup: it would wrap what the block raises into an ExceptionGroup.
        informers = self.informers.values()
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
        """Whether all were read at all."""
        return self._synced == len(self.informers)

    @property
    def is_away(self) -> bool:
        """Whether the API doesn't answer, so that the objects are as they were before."""
        return self._away_since is not None

    async def change(self, within_s: float = math.inf) -> bool:
        """Waits until an object changes, or the API goes away or comes back; False when nothing did in time.

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
        failure = next((i.failure for i in self.informers.values() if i.failure is not None), None)
        if failure is None:
            self._away_since = None
            return
        if isinstance(failure, errors.Unauthorized | errors.Forbidden):
            raise failure
        now = asyncio.get_running_loop().time()
        self._away_since = self._away_since or now
        if now - self._away_since > AWAY_S:
            raise failure
