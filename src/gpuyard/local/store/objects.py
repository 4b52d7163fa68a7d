"""The latest state of every object, as committed."""

from __future__ import annotations

from bisect import bisect_left, insort

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.values import Event, Stored


class Objects:
    """Objects by resource and key, each resource's keys kept in order."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[ObjectKey, Stored]] = {}
        self._sorted: dict[str, list[ObjectKey]] = {}

    def get(self, resource: str, key: ObjectKey) -> Stored | None:
        """The object, if it exists."""
        return self._tables.get(resource, {}).get(key)

    def list(self, resource: str, namespace: str | None) -> list[Stored]:
        """The objects of one namespace, or of all, in key order."""
        table = self._tables.get(resource, {})
        keys = self._sorted.get(resource, [])
        if namespace is not None:
            start = bisect_left(keys, ObjectKey(namespace, ""))
            # "\0" sorts right behind the namespace itself and before every other one.
            keys = keys[start : bisect_left(keys, ObjectKey(namespace + "\0", ""))]
        return [table[key] for key in keys]

    def apply(self, event: Event) -> None:
        """Takes in a committed change."""
        stored = event.stored
        table = self._tables.setdefault(stored.resource, {})
        keys = self._sorted.setdefault(stored.resource, [])
        if event.type == "DELETED":
            if table.pop(stored.key, None) is not None:
                del keys[bisect_left(keys, stored.key)]
            return
        if stored.key not in table:
            insort(keys, stored.key)
        table[stored.key] = stored
