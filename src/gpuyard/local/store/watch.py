"""One reader of the history."""

from __future__ import annotations

import asyncio

from gpuyard.local.store.history import EventHistory
from gpuyard.local.store.values import Event

#: Events handed out in a row before other tasks get a turn, should the reader itself never wait.
_BURST = 100


class Watch:
    """Events of one resource after a revision: in order, each exactly once, until the store closes.

    An async iterator. Cancelling `__anext__` loses no event: the next call goes on where it was. There is
    nothing to close.

    Attributes:
        revision: every event up to this one is either handed out or of no interest here; what a bookmark
            says, and where another watch can go on.
    """

    def __init__(self, history: EventHistory, resource: str, namespace: str | None, after: int) -> None:
        """Raises Gone when the history doesn't reach back to `after`."""
        history.after(after)
        self.revision = after
        self._history = history
        self._resource = resource
        self._namespace = namespace
        self._burst = 0

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            Gone: this watch was so slow that the history has passed it.
        """
        if self._burst >= _BURST:
            self._burst = 0
            await asyncio.sleep(0)
        while (event := self._advance()) is None:
            if self._history.closed:
                raise StopAsyncIteration
            self._burst = 0
            await self._history.wait()
        self._burst += 1
        return event

    def _advance(self) -> Event | None:
        """Moves on to the next event of interest, or to the end."""
        while (event := self._history.after(self.revision)) is not None:
            stored = event.stored
            self.revision = stored.revision
            if stored.resource == self._resource and self._namespace in (None, stored.key.namespace):
                return event
        return None
