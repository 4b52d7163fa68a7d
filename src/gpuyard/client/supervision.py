"""Loops that outlive a bad object.

Some objects make a loop raise what nobody foresaw: a damaged or an older release stored them, another program
wrote them, or the loop has a bug. A `Supervisor` is the one place that catches such an exception. It says
which loop failed at which object, in the log and in an Event on that object; then the loop sets the object
aside and goes on with the others. Whoever works with queues retries the object with back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from gpuyard import errors
from gpuyard.client.events import EventRecorder
from gpuyard.kube.objects import Manifest, ObjectKey, Resource

log = logging.getLogger(__name__)

#: `reason` of the Events that name objects which a loop set aside.
SET_ASIDE = "SetAside"

_RETRY_S = 1.0
_RETRY_MAX_S = 30.0
#: A loop that went this long was healthy: its next failure is a first one.
_HEALTHY_S = 60.0
#: More failures than this are only logged.
_MAX_WAITING_EVENTS = 1_000
_MAX_REMEMBERED = 10_000


class ObjectReference(NamedTuple):
    """Names an object in a report; `uid` is empty where it isn't known."""

    resource: Resource
    key: ObjectKey
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.resource.qualified} {self.key}"


class Supervisor:
    """Reports what loops trip over. One for all loops over one API.

    The same failure of one loop at one object brings its traceback and its Event once, later a line.

    Args:
        events: writes the Events, while `run` runs; None where the log is enough.
    """

    def __init__(self, events: EventRecorder | None = None) -> None:
        self._events = events
        self._waiting: asyncio.Queue[tuple[ObjectReference, str]] = asyncio.Queue(_MAX_WAITING_EVENTS)
        self._reported: dict[tuple[str, ObjectReference | None], str] = {}

    async def run(self) -> None:
        """Writes the Events until cancelled."""
        while True:
            reference, message = await self._waiting.get()
            if self._events is None:
                continue
            # Without the object: an Event about it would fail in the same way, again and again.
            with self.guard("supervisor"):
                await self._events.record(_manifest(reference), "Warning", SET_ASIDE, message)

    @contextmanager
    def guard(self, loop: str, reference: ObjectReference | None = None) -> Iterator[None]:
        """Reports what the block raises, and goes on behind it. Holds for what concerns one object only."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - this is the supervisor: it reports
            self.report(loop, error, reference)

    async def keep(self, loop: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs a loop, and runs it again with back-off (1 s to 30 s) whenever it fails."""
        now = asyncio.get_running_loop().time
        retry_s = _RETRY_S
        while True:
            started_at = now()
            with self.guard(loop):
                await run()
                return
            retry_s = _RETRY_S if now() - started_at > _HEALTHY_S else min(retry_s * 2, _RETRY_MAX_S)
            await asyncio.sleep(retry_s)

    def report(self, loop: str, error: Exception, reference: ObjectReference | None = None) -> None:
        """Says that a loop failed, and at which object; an error of our own needs no traceback."""
        what = f"{loop}: {reference}" if reference else loop
        if isinstance(error, errors.GpuyardError):
            log.warning("%s: %s", what, error)
            return
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        if self._reported.get((loop, reference)) == text:
            log.warning("%s: again %s", what, text)
            return
        if len(self._reported) >= _MAX_REMEMBERED:
            self._reported.clear()
        self._reported[loop, reference] = text
        log.error("%s: set aside, since it failed in an unforeseen way", what, exc_info=error)
        if reference is not None:
            self.tell(reference, f"{loop} can't work with this object and goes on without it: {text}")

    def tell(self, reference: ObjectReference, message: str) -> None:
        """Writes an Event that names an object as set aside, soon."""
        if not self._waiting.full():
            self._waiting.put_nowait((reference, message))


def set_aside_text(kind: str, key: ObjectKey, message: str) -> str:
    """`Pod default/a: …`: an object that was set aside, and why."""
    return f"{kind} {key}: {message}"


def _manifest(reference: ObjectReference) -> Manifest:
    """As much of the object as an Event needs: the rest may be what is wrong with it."""
    resource, (namespace, name), uid = reference
    metadata = {"name": name, "namespace": namespace, "uid": uid}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
