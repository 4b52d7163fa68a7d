from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store import Change, Store, Stored
from gpuyard.local.store.reserve import RESERVE_BYTES

OpenStore = Callable[..., Awaitable[Store]]

A, B, C = (ObjectKey("default", name) for name in "abc")


def _create(key: ObjectKey, text: str = "made", resource: str = "pods") -> Change:
    return Change.create(resource, key, lambda r: f"{text} at {r}".encode())


def _replace(key: ObjectKey, expected: int, text: str = "changed") -> Change:
    return Change.replace("pods", key, expected, lambda r: f"{text} at {r}".encode())


def _delete(key: ObjectKey, expected: int) -> Change:
    return Change.delete("pods", key, expected, lambda r: f"gone at {r}".encode())


async def _together(store: Store, *changes: Change) -> list[Stored | BaseException]:
    """All in one batch: none is committed before the last one waits."""
    return await asyncio.gather(*(store.write(change) for change in changes), return_exceptions=True)


async def test_an_object_lives_and_dies(store: Store) -> None:
    made = await store.write(_create(A))
    assert made == Stored("pods", A, b"made at 1", 1, 1)
    assert store.get("pods", A) == made
    changed = await store.write(_replace(A, 1))
    assert changed == Stored("pods", A, b"changed at 2", 2, 1)
    assert store.list("pods", "default") == ([changed], 2)
    gone = await store.write(_delete(A, 2))
    assert gone == Stored("pods", A, b"gone at 3", 3, 1)
    assert store.get("pods", A) is None
    assert store.list("pods", None) == ([], 3)
    again = await store.write(_create(A))
    assert (again.revision, again.create_revision) == (4, 4)


async def test_one_revision_for_all_resources(store: Store) -> None:
    await store.write(_create(A))
    job = await store.write(_create(A, resource="jobs.batch"))
    assert (job.revision, store.revision) == (2, 2)
    assert store.list("jobs.batch", None) == ([job], 2)


async def test_a_taken_name(store: Store) -> None:
    await store.write(_create(A, resource="jobs.batch"))
    with pytest.raises(errors.AlreadyExists, match=r'^jobs\.batch "a" already exists$') as caught:
        await store.write(_create(A, resource="jobs.batch"))
    assert caught.value.details == {"name": "a", "group": "batch", "kind": "jobs"}
    assert store.revision == 1


async def test_a_new_object_is_settled_among_all_that_are_there_then(store: Store) -> None:
    seen: list[list[str]] = []

    def settled(key: ObjectKey, *, fails: bool = False) -> Change:
        def settle(others: Sequence[Stored]) -> None:
            seen.append([other.key.name for other in others])
            if fails:
                raise errors.Invalid("no place for it")

        return Change.create("pods", key, lambda _: b"made", settle)

    await store.write(_create(A))
    outcomes = await _together(
        store, settled(B), settled(C, fails=True), _delete(A, 1), settled(C), _create(A, resource="nodes")
    )
    assert isinstance(outcomes[1], errors.Invalid)
    assert seen == [["a"], ["a", "b"], ["b"]]
    assert [stored.key.name for stored in store.list("pods", None)[0]] == ["b", "c"]


@pytest.mark.parametrize("change", [_replace(A, 1), _delete(A, 1)])
async def test_a_stale_revision(store: Store, change: Change) -> None:
    await store.write(_create(A))
    changed = await store.write(_replace(A, 1))
    with pytest.raises(
        errors.Conflict, match='Operation cannot be fulfilled on pods "a": the object has been'
    ):
        await store.write(change)
    assert store.get("pods", A) == changed
    assert store.revision == 2


@pytest.mark.parametrize("change", [_replace(A, 1), _delete(A, 1)])
async def test_an_object_that_is_not_there(store: Store, change: Change) -> None:
    with pytest.raises(errors.NotFound, match='pods "a" not found'):
        await store.write(change)


async def test_an_object_made_anew_is_another_one(store: Store) -> None:
    await store.write(_create(A))
    await store.write(_delete(A, 1))
    await store.write(_create(A))
    with pytest.raises(errors.Conflict):
        await store.write(_replace(A, 1))


async def test_changes_of_one_batch_see_those_before_them(store: Store) -> None:
    made, changed, stale, gone, again = await _together(
        store, _create(A), _replace(A, 1), _replace(A, 1), _delete(A, 2), _create(A)
    )
    assert isinstance(stale, errors.Conflict)
    revisions = [s.revision for s in (made, changed, gone, again) if isinstance(s, Stored)]
    assert revisions == [1, 2, 3, 4]
    assert store.get("pods", A) == again


async def test_of_many_creates_of_one_name_one_wins(store: Store) -> None:
    outcomes = await _together(store, *(_create(A, f"writer {n}") for n in range(20)))
    assert [type(o) for o in outcomes] == [Stored] + [errors.AlreadyExists] * 19
    assert store.get("pods", A) == outcomes[0]


async def test_what_fails_to_encode_fails_alone_and_takes_no_revision(store: Store) -> None:
    def fail(revision: int) -> bytes:
        raise errors.Invalid(f"bad at {revision}")

    first, bad, last = await _together(store, _create(A), Change.create("pods", B, fail), _create(C))
    assert isinstance(bad, errors.Invalid)
    assert isinstance(first, Stored) and isinstance(last, Stored)
    assert (first.revision, last.revision) == (1, 2)
    assert store.get("pods", B) is None


async def test_a_bug_in_encode_fails_alone_too(store: Store) -> None:
    bad, good = await _together(store, Change.create("pods", A, lambda r: b"" + b"%d" % (r // 0)), _create(B))
    assert isinstance(bad, ZeroDivisionError)
    assert isinstance(good, Stored)


async def test_a_cancelled_waiter_leaves_the_others_of_its_batch_alone(store: Store) -> None:
    async with asyncio.timeout(60):
        doomed = asyncio.create_task(store.write(_create(A)))
        other = asyncio.create_task(store.write(_create(B)))
        while not store._committer.done() and not (doomed.done() or store._waiting):
            await asyncio.sleep(0)
        while store._waiting:
            await asyncio.sleep(0)
        # Taken by the committer, so on its way to the disk.
        doomed.cancel()
        assert (await other).revision == 2
        assert doomed.cancelled()
    made = store.get("pods", A)
    assert made is not None and made.revision == 1


async def test_a_waiter_cancelled_before_its_batch_writes_nothing(store: Store) -> None:
    doomed = asyncio.create_task(store.write(_create(A)))
    other = asyncio.create_task(store.write(_create(B)))
    await asyncio.sleep(0)
    doomed.cancel()
    assert (await other).revision == 1
    assert store.get("pods", A) is None


async def test_everything_is_there_after_a_restart(open_store: OpenStore) -> None:
    store = await open_store()
    await _together(store, _create(A), _create(B), _create(C), _replace(B, 2), _delete(C, 3))
    before = store.list("pods", None)
    await store.close()
    store = await open_store()
    assert store.list("pods", None) == before
    assert (await store.write(_create(C))).revision == 6


async def test_a_revision_is_not_used_again_after_the_newest_object_is_deleted(open_store: OpenStore) -> None:
    store = await open_store(max_changes=1)
    made = await store.write(_create(A))
    await store.write(_delete(A, made.revision))
    for expected in (3, 4, 5, 6):
        await store.close()
        store = await open_store(max_changes=1)
        assert store.revision == expected - 1
        if expected % 2:
            assert (await store.write(_create(A))).revision == expected
        else:
            assert (await store.write(_delete(A, expected - 1))).revision == expected


async def test_compaction_leaves_the_live_and_the_history_and_no_more(open_store: OpenStore) -> None:
    store = await open_store(max_changes=20)
    keeper = await store.write(_create(C))
    for number in range(200):
        key = ObjectKey("default", f"short-lived-{number}")
        await store.write(_create(key))
        await store.write(_delete(key, store.revision))
    await store.close()
    store = await open_store(max_changes=20)
    assert store.get("pods", C) == keeper
    rows = await store._on_thread(lambda: [row.revision for row in store._database.rows()])
    # The keeper, the last 20, and the previous state of the oldest of them at most.
    assert rows[0] == 1
    assert rows[-20:] == list(range(382, 402))
    assert len(rows) <= 1 + 20 + 2


async def test_a_second_store_on_the_folder(store: Store, tmp_path: Path) -> None:
    with pytest.raises(errors.StoreLocked, match=str(tmp_path)):
        await Store.open(tmp_path / "store.db")
    await store.write(_create(A))


async def test_a_failed_start_lets_go_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"garbage" * 1000)
    for _ in range(2):
        with pytest.raises(errors.StoreDamaged):
            await Store.open(path)
    path.unlink()
    store = await Store.open(path)
    await store.close()


async def test_closing_commits_what_waits_and_refuses_the_rest(open_store: OpenStore) -> None:
    store = await open_store()
    waiting = asyncio.create_task(store.write(_create(A)))
    await asyncio.sleep(0)
    await store.close()
    assert (await waiting).revision == 1
    with pytest.raises(errors.StoreError, match="closed"):
        await store.write(_create(B))
    await store.close()
    store = await open_store()
    assert store.get("pods", A) is not None


async def test_a_killed_committer_leaves_nobody_waiting(open_store: OpenStore) -> None:
    """As at the end of `asyncio.run`, which cancels every task."""
    store = await open_store()
    waiting = asyncio.create_task(store.write(_create(A)))
    await asyncio.sleep(0)
    store._committer.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(errors.StoreError, match="closed"):
            await waiting
        with pytest.raises(errors.StoreError, match="closed"):
            await store.write(_create(B))
        await store.close()


@contextmanager
def _files_no_larger_than(size_bytes: int) -> Iterator[None]:
    """A real failing write(2); CPython ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_failing_commit_fails_its_whole_batch_and_the_store_goes_on(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = await open_store()
    made = await store.write(_create(A))
    watch = store.watch("pods", None, after=1)
    big = "x" * 6_000_000
    with _files_no_larger_than((tmp_path / "store.db-wal").stat().st_size + 50_000):
        outcomes = await _together(
            store,
            _replace(A, 1),
            _create(B, big),
            _create(B),
            Change.create("pods", C, lambda r: b"%d" % (r // 0)),
        )
    # The refusals too: B isn't there, so "already exists" would be a lie.
    assert [type(o) for o in outcomes] == [errors.StoreError] * 4
    assert len({id(o) for o in outcomes}) == 4
    assert store.list("pods", None) == ([made], 1)

    changed = await store.write(_replace(A, 1))
    assert changed.revision == 2
    async with asyncio.timeout(60):
        assert (await anext(watch)).stored == changed
    await store.close()
    store = await open_store()
    assert store.list("pods", None) == ([changed], 2)


async def test_updates_of_a_large_object_are_bounded_on_the_disk_and_in_the_history(tmp_path: Path) -> None:
    size_bytes, kept_bytes = 100_000, 2_000_000
    path = tmp_path / "store.db"
    store = await Store.open(path, max_bytes=kept_bytes, synchronous="OFF")
    key = ObjectKey("default", "large")
    stored = await store.write(Change.create("configmaps", key, lambda revision: b"x" * size_bytes))
    for _ in range(200):
        change = Change.replace("configmaps", key, stored.revision, lambda revision: b"x" * size_bytes)
        stored = await store.write(change)
    assert 0 < store.revision - store.compacted <= kept_bytes // size_bytes
    await store.close()
    # The history, what waits to be swept, the reserve and a page here and there; 20 MB were written.
    assert path.stat().st_size < 2 * kept_bytes + RESERVE_BYTES


async def test_a_committer_that_fails_is_told_to_who_watches_the_store(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store()
    watching = asyncio.create_task(store.wait_broken(), name="store")

    def breaks(*_: object) -> None:
        raise MemoryError("a bug")

    monkeypatch.setattr("gpuyard.local.store.store._settle", breaks)
    with pytest.raises(errors.StoreError, match="closed"):
        await store.write(_create(A))
    with pytest.raises(MemoryError, match="a bug"):
        await asyncio.wait_for(watching, 60)
    with pytest.raises(MemoryError):
        await store.close()
