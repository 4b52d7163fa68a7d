"""From the database's rows back to what the store holds in memory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.database import Database, Row
from gpuyard.local.store.history import MAX_BYTES, EventHistory
from gpuyard.local.store.objects import Objects
from gpuyard.local.store.values import Event, Stored

log = logging.getLogger(__name__)


#: What is wrong with a row's value, empty when nothing is.
FindFault = Callable[[Row], str]


def load(
    database: Database,
    max_changes: int,
    max_bytes: int = MAX_BYTES,
    find_fault: FindFault = lambda row: "",
) -> tuple[Objects, EventHistory]:
    """Plays every row again: the latest objects, and the last events with their previous states.

    Compaction has left gaps among the older rows; the history starts behind the last of them. The rows that
    it could have deleted before the last stop come out as the new history's garbage.

    A row with a fault is set aside: its object is as it was before, or isn't there. A deletion holds,
    whatever its row says.
    """
    objects, history = Objects(), EventHistory(max_changes, max_bytes)
    faults: list[tuple[int, str]] = []
    for row in database.rows():
        if row.revision != history.revision + 1:
            history.forget_until(row.revision - 1)
        fault = find_fault(row)
        if fault and not row.deleted:
            log.error("%s %s/%s is set aside: %s", row.resource, row.namespace, row.name, fault)
            faults.append((row.revision, fault))
            history.forget_until(row.revision)
            continue
        event = _event(row, objects)
        objects.apply(event)
        history.append(event)
        if event.previous is None and row.create_revision != row.revision:
            # Its previous state is compacted: without it a selector can't tell a change from an addition.
            history.forget_until(row.revision)
        elif fault:
            history.forget_until(row.revision)
    if faults:
        database.set_aside(faults)
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
