"""One client's view of the store's events: selectors turn changes into ADDED, MODIFIED and DELETED."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from gpuyard.local.objects.selection import Selection
from gpuyard.local.store import Event, Watch
from gpuyard.local.store.values import EventType


class Seen(NamedTuple):
    """One change as this client sees it; `value` is the encoded object."""

    type: EventType
    value: bytes


class View:
    """An async iterator of `Seen`; cancelling `__anext__` loses nothing.

    An object that stops matching is DELETED for this client, with its last matching state and the
    revision of the change; one that starts matching is ADDED.
    """

    def __init__(self, watch: Watch, selection: Selection) -> None:
        self._watch = watch
        self._selection = selection

    @property
    def revision(self) -> int:
        """Everything up to this revision has been handed out."""
        return self._watch.revision

    def __aiter__(self) -> View:
        return self

    async def __anext__(self) -> Seen:
        """Raises Gone when the history has passed this watch."""
        while True:
            seen = _seen(await anext(self._watch), self._selection)
            if seen is not None:
                return seen


def _seen(event: Event, selection: Selection) -> Seen | None:
    if selection.is_empty:
        return Seen(event.type, event.stored.value)
    before = event.previous is not None and selection.matches_bytes(event.previous.value)
    now = event.type != "DELETED" and selection.matches_bytes(event.stored.value)
    if now:
        return Seen("MODIFIED" if before else "ADDED", event.stored.value)
    if not before or event.previous is None:
        return None
    if event.type == "DELETED":
        return Seen("DELETED", event.stored.value)
    last = orjson.loads(event.previous.value)
    last["metadata"]["resourceVersion"] = str(event.stored.revision)
    return Seen("DELETED", orjson.dumps(last))
