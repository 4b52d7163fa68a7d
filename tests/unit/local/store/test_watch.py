from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store import Change, Event, Store, Stored, Watch

OpenStore = Callable[..., Awaitable[Store]]


async def _create(store: Store, name: str, namespace: str = "default", resource: str = "pods") -> Stored:
    return await store.write(Change.create(resource, ObjectKey(namespace, name), lambda r: b"%d" % r))


async def _take(watch: Watch, count: int) -> list[Event]:
    async with asyncio.timeout(60):
        return [await anext(watch) for _ in range(count)]


def _names(events: list[Event]) -> list[str]:
    return [event.stored.key.name for event in events]


async def test_it_sees_what_comes_after_a_revision_and_nothing_else(store: Store) -> None:
    await _create(store, "before")
    watch = store.watch("pods", "default", after=1)
    await _create(store, "a")
    await _create(store, "elsewhere", namespace="other")
    await _create(store, "no-pod", resource="jobs.batch")
    await _create(store, "b")
    assert _names(await _take(watch, 2)) == ["a", "b"]


async def test_all_namespaces(store: Store) -> None:
    watch = store.watch("pods", None, after=0)
    await _create(store, "a", namespace="x")
    await _create(store, "b", namespace="y")
    assert _names(await _take(watch, 2)) == ["a", "b"]


async def test_events_carry_the_state_before(store: Store) -> None:
    key = ObjectKey("default", "a")
    made = await store.write(Change.create("pods", key, lambda r: b"made"))
    changed = await store.write(Change.replace("pods", key, made.revision, lambda r: b"changed"))
    gone = await store.write(Change.delete("pods", key, changed.revision, lambda r: b"last at %d" % r))
    assert await _take(store.watch("pods", None, after=0), 3) == [
        Event("ADDED", made, None),
        Event("MODIFIED", changed, made),
        Event("DELETED", gone, changed),
    ]
    assert gone.value == b"last at 3"


async def test_a_waiting_watch_is_woken(store: Store) -> None:
    watch = store.watch("pods", None, after=0)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(_take(watch, 1))
        await asyncio.sleep(0)
        await _create(store, "a")
    assert _names(waiting.result()) == ["a"]


async def test_nothing_is_shown_before_it_is_committed(store: Store) -> None:
    watch = store.watch("pods", None, after=0)
    seen: list[int] = []

    def look(revision: int) -> bytes:
        seen.append(store.revision)
        return b""

    await store.write(Change.create("pods", ObjectKey("default", "a"), look))
    assert seen == [0]
    (event,) = await _take(watch, 1)
    assert store.get("pods", event.stored.key) is event.stored


async def test_resuming_from_any_revision_still_held(open_store: OpenStore) -> None:
    store = await open_store(max_changes=5)
    for number in range(1, 11):
        await _create(store, f"pod-{number}")
    for after in range(5, 11):
        assert _names(await _take(store.watch("pods", None, after), 10 - after)) == [
            f"pod-{n}" for n in range(after + 1, 11)
        ]
    with pytest.raises(errors.Gone, match=r"too old resource version: 4 \(5\)"):
        store.watch("pods", None, after=4)


async def test_a_revision_from_another_life_of_the_yard_is_gone(store: Store) -> None:
    with pytest.raises(errors.Gone, match="too large resource version: 1, current: 0"):
        store.watch("pods", None, after=1)


async def test_a_slow_watch_falls_off_and_holds_up_nobody(open_store: OpenStore) -> None:
    store = await open_store(max_changes=5)
    slow = store.watch("pods", None, after=0)
    await _create(store, "first")
    assert _names(await _take(slow, 1)) == ["first"]
    for number in range(6):
        await _create(store, f"pod-{number}")
    with pytest.raises(errors.Gone, match=r"too old resource version: 1 \(2\)"):
        await anext(slow)


async def test_a_watch_that_waits_through_other_events_does_not_fall_off(open_store: OpenStore) -> None:
    store = await open_store(max_changes=5)
    watch = store.watch("jobs.batch", None, after=0)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        waiting = group.create_task(_take(watch, 1))
        for number in range(20):
            await _create(store, f"pod-{number}")
        # What a bookmark would say has moved on with the events that are none of its business.
        assert watch.revision >= 15
        await _create(store, "job", resource="jobs.batch")
    assert _names(waiting.result()) == ["job"]


async def test_a_cancelled_wait_loses_nothing(store: Store) -> None:
    watch = store.watch("pods", None, after=0)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await _create(store, "a")
    assert _names(await _take(watch, 1)) == ["a"]


async def test_a_greedy_reader_lets_others_have_their_turn(store: Store) -> None:
    await asyncio.gather(*(_create(store, f"pod-{number}") for number in range(300)))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    await _take(store.watch("pods", None, after=0), 300)
    other.cancel()
    assert turns >= 2


async def test_under_load_every_watch_sees_every_event_once_and_in_order(store: Store) -> None:
    """Some wait for each event, some begin in the middle, one reads only when all is over."""
    writers, each = 8, 100
    late = store.watch("pods", None, after=0)

    async def write(number: int) -> None:
        for count in range(each):
            await _create(store, f"pod-{number}-{count}")

    async def follow(after: int) -> list[int]:
        watch = store.watch("pods", None, after)
        return [(await anext(watch)).stored.revision for _ in range(writers * each - after)]

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        early = [group.create_task(follow(0)) for _ in range(10)]
        for number in range(writers):
            group.create_task(write(number))
        while store.revision < 300:
            await asyncio.sleep(0)
        middle = [group.create_task(follow(after)) for after in (0, 100, 250)]
    everything = list(range(1, writers * each + 1))
    assert [task.result() for task in early] == [everything] * 10
    assert [task.result() for task in middle] == [everything, everything[100:], everything[250:]]
    assert [event.stored.revision for event in await _take(late, len(everything))] == everything


async def test_it_ends_when_the_store_closes_after_the_last_event(store: Store) -> None:
    late = store.watch("pods", None, after=0)
    early = store.watch("pods", None, after=0)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:

        async def read_all(watch: Watch) -> list[Event]:
            return [event async for event in watch]

        reading = group.create_task(read_all(early))
        await _create(store, "a")
        await store.close()
    assert _names(reading.result()) == ["a"]
    assert _names([event async for event in late]) == ["a"]


async def test_after_a_restart_events_and_their_previous_states_are_there(open_store: OpenStore) -> None:
    store = await open_store(max_changes=3)
    key = ObjectKey("default", "a")
    states = [await _create(store, "a")]
    for _ in range(5):
        change = Change.replace("pods", key, states[-1].revision, lambda r: b"%d" % r)
        states.append(await store.write(change))
    await store.close()

    store = await open_store(max_changes=3)
    assert await _take(store.watch("pods", None, after=3), 3) == [
        Event("MODIFIED", states[n], states[n - 1]) for n in (3, 4, 5)
    ]
    with pytest.raises(errors.Gone, match=r"too old resource version: 2 \(3\)"):
        store.watch("pods", None, after=2)


async def test_a_deletion_is_seen_across_compaction_or_the_watch_is_gone(open_store: OpenStore) -> None:
    """etcd once lost a delete here."""
    store = await open_store(max_changes=4)
    made = await _create(store, "victim")
    await store.write(Change.delete("pods", made.key, made.revision, lambda r: b""))
    for number in range(8):
        outcome: list[str] | str
        try:
            outcome = [e.type for e in await _take(store.watch("pods", None, after=1), 1)]
        except errors.Gone:
            outcome = "gone"
        assert outcome == (["DELETED"] if number <= 3 else "gone")
        await _create(store, f"pod-{number}")
        await store.close()
        store = await open_store(max_changes=4)
