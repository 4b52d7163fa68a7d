"""Keys that wait for a controller: each at most once, none handled by two workers at the same time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gpuyard import errors
from gpuyard.client.supervision import ObjectReference, Supervisor

log = logging.getLogger(__name__)

Key = TypeVar("Key")

_BACKOFF_S = 0.05
_BACKOFF_MAX_S = 30.0


class WorkQueue(Generic[Key]):
    """Hands out keys to `reconcile`. A key added while it is being handled is handled once more afterwards.

    `reconcile` may return a number of seconds after which it wants to see the key again. When it raises a
    GpuyardError, the key comes back with exponential back-off (50 ms to 30 s); after a Conflict always
    after 50 ms, since the newer object is already on its way. Any other exception goes to the supervisor and
    the key comes back like after an error, so that one object which trips a controller over doesn't take
    all others, and the means to delete it, down with it.

    Args:
        name: of the controller, for reports.
        supervisor: is told of exceptions that nobody foresaw.
        reference: the object that a key stands for.
    """

    def __init__(
        self,
        name: str,
        reconcile: Callable[[Key], Awaitable[float | None]],
        supervisor: Supervisor,
        reference: Callable[[Key], ObjectReference],
    ) -> None:
        self._name = name
        self._reconcile = reconcile
        self._supervisor = supervisor
        self._reference = reference
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key) -> None:
        """Asks for the key to be handled soon."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, delay_s: float) -> None:
        """Asks for it after a delay; an earlier request wins."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(delay_s, 0.0)
        if timer := self._timers.get(key):
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self, workers: int = 1) -> None:
        """Handles keys until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(self._work(), name=f"{self._name}-{number}")
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                delay_s = await self._attempt(key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif delay_s is not None:
                self.add_after(key, delay_s)

    async def _attempt(self, key: Key) -> float | None:
        """Handles a key once; says after how many seconds it comes back."""
        with self._supervisor.guard(self._name, self._reference(key)):
            try:
                delay_s = await self._reconcile(key)
            except errors.Conflict:
                return _BACKOFF_S
            except errors.GpuyardError as error:
                delay_s = self._delay_after_failure(key)
                log.warning("%s %s: %s; again in %.2f s", self._name, key, error, delay_s)
                return delay_s
            self._failures.pop(key, None)
            return delay_s
        return self._delay_after_failure(key)

    def _delay_after_failure(self, key: Key) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        # The exponent is bounded, since a key may fail for weeks.
        return float(min(_BACKOFF_S * 2 ** min(count - 1, 32), _BACKOFF_MAX_S))
