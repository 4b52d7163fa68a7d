"""Changes that are committed together: each is checked against what is committed and those before it."""

from __future__ import annotations

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.database import Row
from gpuyard.local.store.objects import Objects
from gpuyard.local.store.values import Change, Event, Stored


class Batch:
    """Collects the rows and events of the changes that pass, without touching anything committed."""

    def __init__(self, objects: Objects, revision: int) -> None:
        """`objects` as of `revision`, which must both stay as they are until the batch is committed."""
        self.rows: list[Row] = []
        self.events: list[Event] = []
        self._objects = objects
        self._revision = revision
        self._overlay: dict[tuple[str, ObjectKey], Stored | None] = {}

    def add(self, change: Change) -> Stored:
        """Gives the change the next revision, and says what it will have written.

        Raises:
            AlreadyExists, NotFound, Conflict: compare-and-swap failed; the batch is as before.
            Exception: whatever `settle` and `encode` raise; likewise.
        """
        place = (change.resource, change.key)
        previous = self._overlay.get(place) if place in self._overlay else self._objects.get(*place)
        _check(change, previous)
        if change.settle is not None:
            change.settle(self._all_of(change.resource))
        revision = self._revision + 1
        value = change.encode(revision)
        stored = Stored(
            change.resource if previous is None else previous.resource,
            change.key if previous is None else previous.key,
            value,
            revision,
            revision if previous is None else previous.create_revision,
        )
        self._revision = revision
        self._overlay[place] = None if change.verb == "delete" else stored
        self.events.append(_event(change, stored, previous))
        self.rows.append(
            Row(
                revision,
                change.resource,
                change.key.namespace,
                change.key.name,
                stored.create_revision,
                None if previous is None else previous.revision,
                change.verb == "delete",
                value,
            )
        )
        return stored

    def _all_of(self, resource: str) -> list[Stored]:
        """Its objects, as they are after the changes so far."""
        current: dict[ObjectKey, Stored | None] = {
            stored.key: stored for stored in self._objects.list(resource, None)
        }
        current |= {key: stored for (other, key), stored in self._overlay.items() if other == resource}
        return [stored for stored in current.values() if stored is not None]


def _check(change: Change, previous: Stored | None) -> None:
    plural, _, group = change.resource.partition(".")
    details = {"name": change.key.name, "group": group, "kind": plural}
    if change.verb == "create":
        if previous is not None:
            raise errors.AlreadyExists(
                f'{change.resource} "{change.key.name}" already exists', details=details
            )
    elif previous is None:
        raise errors.NotFound(f'{change.resource} "{change.key.name}" not found', details=details)
    elif previous.revision != change.expected_revision:
        raise errors.Conflict(
            f'Operation cannot be fulfilled on {change.resource} "{change.key.name}": the object has been '
            "modified; please apply your changes to the latest version and try again",
            details=details,
        )


def _event(change: Change, stored: Stored, previous: Stored | None) -> Event:
    if change.verb == "delete":
        return Event("DELETED", stored, previous)
    return Event("ADDED" if previous is None else "MODIFIED", stored, previous)
