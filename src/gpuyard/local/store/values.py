"""What goes into the store and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gpuyard.kube.objects import ObjectKey

#: Gives the bytes of an object for the revision that its write gets.
Encode = Callable[[int], bytes]

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


class Stored(NamedTuple):
    """One object as of one revision. `value` is what `encode` gave; the store never looks into it."""

    resource: str
    key: ObjectKey
    value: bytes
    revision: int
    create_revision: int


class Event(NamedTuple):
    """One committed change.

    Attributes:
        stored: the new state; for DELETED the last state, with the revision of the deletion.
        previous: the state before, None for ADDED.
    """

    type: EventType
    stored: Stored
    previous: Stored | None


#: Is shown all objects of a resource, before one is added to them.
Settle = Callable[[Sequence[Stored]], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One write that waits to be committed: make it with `create`, `replace` or `delete`.

    `encode` is called on the loop, right before each attempt to commit, and must not block. What it raises
    goes to the caller of `Store.write`, and nothing is written. The same holds for `settle`, which is called
    before it with all objects of the resource as they are then: nothing comes between that and the write.
    """

    verb: Literal["create", "replace", "delete"]
    resource: str
    key: ObjectKey
    encode: Encode
    expected_revision: int = 0
    settle: Settle | None = None

    @property
    def has_right_to_reserve(self) -> bool:
        """Whether it may use what the store keeps for a full disk: what ends runs and frees space is neither
        refused nor lost; what would add an object is refused."""
        return self.verb != "create"

    @classmethod
    def create(cls, resource: str, key: ObjectKey, encode: Encode, settle: Settle | None = None) -> Change:
        """Writes an object that must not exist yet."""
        return cls("create", resource, key, encode, settle=settle)

    @classmethod
    def replace(cls, resource: str, key: ObjectKey, expected_revision: int, encode: Encode) -> Change:
        """Replaces an object that must still be at `expected_revision`."""
        return cls("replace", resource, key, encode, expected_revision)

    @classmethod
    def delete(cls, resource: str, key: ObjectKey, expected_revision: int, encode: Encode) -> Change:
        """Deletes an object that must still be at `expected_revision`; `encode` gives its last state."""
        return cls("delete", resource, key, encode, expected_revision)
