from __future__ import annotations

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.objects import Objects
from gpuyard.local.store.values import Event, Stored


def _stored(namespace: str, name: str, revision: int = 1) -> Stored:
    return Stored("pods", ObjectKey(namespace, name), b"", revision, 1)


def test_lists_are_in_key_order_and_hold_one_namespace_only() -> None:
    objects = Objects()
    for namespace, name in (("b", "x"), ("a", "z"), ("ab", "m"), ("a", "c"), ("a-b", "n"), ("", "node")):
        objects.apply(Event("ADDED", _stored(namespace, name), None))
    assert [str(o.key) for o in objects.list("pods", None)] == ["node", "a/c", "a/z", "a-b/n", "ab/m", "b/x"]
    assert [str(o.key) for o in objects.list("pods", "a")] == ["a/c", "a/z"]
    assert [str(o.key) for o in objects.list("pods", "")] == ["node"]
    assert objects.list("pods", "c") == []
    assert objects.list("nodes", None) == []


def test_a_change_replaces_and_a_deletion_removes() -> None:
    objects = Objects()
    first, second = _stored("a", "x", 1), _stored("a", "x", 2)
    objects.apply(Event("ADDED", first, None))
    objects.apply(Event("MODIFIED", second, first))
    assert objects.list("pods", "a") == [second]
    assert objects.get("pods", ObjectKey("a", "x")) == second
    objects.apply(Event("DELETED", _stored("a", "x", 3), second))
    assert objects.list("pods", "a") == []
    assert objects.get("pods", ObjectKey("a", "x")) is None
