"""From the database's rows back to what the store holds in memory."""

from __future__ import annotations

import sys

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.database import Database, Row
from gpuyard.local.store.history import MAX_BYTES, History
from gpuyard.local.store.objects import Objects
from gpuyard.local.store.values import Event, Stored


def load(database: Database, max_changes: int, max_bytes: int = MAX_BYTES) -> tuple[Objects, History]:
    """Plays every row again: the latest objects, and the last events with their previous states.

    Compaction has left gaps among the older rows; the history starts behind the last of them. The rows that
    it could have deleted before the last stop come out as the new history's garbage.
    """
    objects, history = Objects(), History(max_changes, max_bytes)
    for row in database.rows():
        if row.revision != history.revision + 1:
            history.forget_until(row.revision - 1)
        event = _event(row, objects)
        objects.apply(event)
        history.append(event)
        if event.previous is None and row.create_revision != row.revision:
            # Its previous state is compacted: without it a selector can't tell a change from an addition.
            history.forget_until(row.revision)
    if (last := database.last_revision()) > history.revision:
        history.forget_until(last)
    return objects, history


def _event(row: Row, objects: Objects) -> Event:
    # Names repeat in many rows; in memory each is there once.
    resource = sys.intern(row.resource)
    key = ObjectKey(sys.intern(row.namespace), row.name)
    previous = objects.get(resource, key)
    stored = Stored(resource, previous.key if previous else key, row.value, row.revision, row.create_revision)
    if row.deleted:
        return Event("DELETED", stored, previous)
    return Event("ADDED" if row.create_revision == row.revision else "MODIFIED", stored, previous)
