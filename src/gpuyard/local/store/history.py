"""The last committed changes, shared by all watches."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

from gpuyard import errors
from gpuyard.local.store.values import Event, Stored

#: What a watch can go back by: so many changes, as long as their objects take no more than this together.
MAX_CHANGES = 4_000
MAX_BYTES = 64 << 20
#: Rows that nobody can ask for any more are deleted once they make up this part of a bound.
_SWEEP_PART = 20


class EventHistory:
    """Holds the events of the revisions `compacted + 1` to `revision`, without gaps.

    Belongs to one loop. Watches keep only a position, so that a slow one costs nothing and holds up nobody:
    when its position has fallen off the end, it is told so.
    """

    def __init__(self, max_changes: int = MAX_CHANGES, max_bytes: int = MAX_BYTES) -> None:
        """Keeps so many events at most, at least 1, and of so many bytes together, except for the last."""
        self.revision = 0
        self.closed = False
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._events: deque[Event] = deque()
        self._bytes = 0
        #: (revision, bytes) of rows to be deleted, oldest event first.
        self._garbage: deque[tuple[int, int]] = deque()
        self._garbage_bytes = 0
        self._changed = asyncio.Event()

    @property
    def compacted(self) -> int:
        """A watch can start after this revision or any later one."""
        return self.revision - len(self._events)

    def append(self, event: Event) -> None:
        """Takes in the event of the next revision."""
        assert event.stored.revision == self.revision + 1
        self.revision += 1
        self._events.append(event)
        self._bytes += len(event.stored.value)
        while len(self._events) > 1 and (
            len(self._events) > self._max_changes or self._bytes > self._max_bytes
        ):
            self._drop()

    def forget_until(self, revision: int) -> None:
        """Drops everything: what came before isn't known, or not completely."""
        while self._events:
            self._drop()
        self.revision = revision

    def _drop(self) -> None:
        """Lets go of the oldest event, and notes the rows that nobody can ask for any more.

        A superseded row is still the `previous` of the event that superseded it: it goes with that event,
        and a tombstone with its own. The row of the highest revision is always in here, so never goes.
        """
        event = self._events.popleft()
        self._bytes -= len(event.stored.value)
        if event.previous is not None:
            self._note_garbage(event.previous)
        if event.type == "DELETED":
            self._note_garbage(event.stored)

    def _note_garbage(self, stored: Stored) -> None:
        self._garbage.append((stored.revision, len(stored.value)))
        self._garbage_bytes += len(stored.value)

    def garbage(self, writes: int) -> list[int]:
        """Revisions whose rows go in a commit of so many writes, oldest event first.

        Mostly none; when enough have gathered, a bounded number, which outruns what the writes add.
        """
        step = max(1, self._max_changes // _SWEEP_PART)
        if len(self._garbage) < step and self._garbage_bytes < self._max_bytes // _SWEEP_PART:
            return []
        return [revision for revision, _ in islice(self._garbage, max(step, 2 * writes))]

    def swept(self, count: int) -> None:
        """The first `count` of `garbage` are deleted."""
        for _ in range(count):
            self._garbage_bytes -= self._garbage.popleft()[1]

    def after(self, revision: int) -> Event | None:
        """The event that follows this revision, None when it is still to come.

        Raises:
            Gone: it is no longer held, or the revision is one that this store hasn't reached (it is
                from another store, perhaps from a database that was since moved aside).
        """
        if revision > self.revision:
            raise errors.Gone(f"too large resource version: {revision}, current: {self.revision}")
        index = revision - self.compacted
        if index < 0:
            raise errors.Gone(f"too old resource version: {revision} ({self.compacted})")
        return self._events[index] if index < len(self._events) else None

    def notify(self) -> None:
        """Wakes every watch that waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self) -> None:
        """Waits for the next `notify`."""
        await self._changed.wait()

    def close(self) -> None:
        """Ends every watch once it has seen all events."""
        self.closed = True
        self.notify()
