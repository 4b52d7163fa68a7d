"""The last committed changes, shared by all watches."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

from gpuyard import errors
from gpuyard.local.store.values import Event


class History:
    """Holds the events of the revisions `compacted + 1` to `revision`, without gaps.

    Belongs to one loop. Watches keep only a position, so that a slow one costs nothing and holds up nobody:
    when its position has fallen off the end, it is told so.
    """

    def __init__(self, limit: int) -> None:
        """`limit` is the number of events kept, at least 1."""
        self.revision = 0
        self.closed = False
        self._limit = limit
        self._events: deque[Event] = deque()
        self._garbage: deque[int] = deque()
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
        if len(self._events) > self._limit:
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
        if event.previous is not None:
            self._garbage.append(event.previous.revision)
        if event.type == "DELETED":
            self._garbage.append(event.stored.revision)

    def garbage(self, writes: int) -> list[int]:
        """Revisions whose rows go in a commit of so many writes, oldest event first.

        Mostly none; when enough have gathered, a bounded number, which outruns what the writes add.
        """
        step = max(1, self._limit // 20)
        if len(self._garbage) < step:
            return []
        return list(islice(self._garbage, max(step, 2 * writes)))

    def swept(self, count: int) -> None:
        """The first `count` of `garbage` are deleted."""
        for _ in range(count):
            self._garbage.popleft()

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
