"""The store: reads from memory, writes through one committer."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store.batch import Batch
from gpuyard.local.store.database import Database, Fault, Synchronous
from gpuyard.local.store.history import MAX_BYTES, MAX_CHANGES, EventHistory
from gpuyard.local.store.loading import FindFault, load
from gpuyard.local.store.lock import FolderLock
from gpuyard.local.store.objects import Objects
from gpuyard.local.store.reserve import RESERVE_BYTES
from gpuyard.local.store.values import Change, Event, Stored
from gpuyard.local.store.watch import Watch

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Changes in one transaction. More would keep the loop busy encoding while nobody else gets a turn.
_MAX_BATCH = 500


@dataclass(frozen=True, slots=True)
class _PendingChange:
    """A change and whoever waits for it. A waiter that was cancelled has a future that is done."""

    change: Change
    future: asyncio.Future[Stored]


class Store:
    """All objects of one yard. Open it with `open`; it belongs to the loop that opened it.

    Every committed write gets the next revision; a revision is never used twice, whatever happens. Reads
    see committed state only and never wait. One committer task takes all writes that wait, checks
    each against what is committed and the ones before it, commits them in one transaction on the
    store's own thread, and only then shows them to readers, watches and callers. When the commit fails, every
    write of it fails and nothing has changed. On a full disk that holds for new objects: changes and
    deletions of those that are there have a reserve, see `reserve`.
    """

    def __init__(
        self,
        database: Database,
        objects: Objects,
        history: EventHistory,
        lock: FolderLock,
        thread: ThreadPoolExecutor,
    ) -> None:
        """Takes over what `open` has made."""
        self._database = database
        self._objects = objects
        self._history = history
        self._lock = lock
        self._thread = thread
        self._waiting: deque[_PendingChange] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._committer = asyncio.create_task(self._commit_all(), name="store-committer")

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        lock: Path | None = None,
        max_changes: int = MAX_CHANGES,
        max_bytes: int = MAX_BYTES,
        synchronous: Synchronous = "FULL",
        reserve_bytes: int = RESERVE_BYTES,
        find_fault: FindFault = lambda row: "",
    ) -> Store:
        """Opens the database at `path`, made anew when there is none, and loads it.

        Args:
            path: the SQLite file; its folder must exist.
            lock: the file that says whose the folder is; `lock` beside the database by default.
            max_changes: revisions kept for watches; Kubernetes clients expect 1,000 at least.
            max_bytes: how much the objects of these revisions may take together.
            find_fault: says what is wrong with a stored value; such rows are set aside, see `faults`.
            reserve_bytes: kept on the disk for changes and deletions.
            synchronous: OFF loses writes in a power cut, and is for tests.

        Raises:
            StoreLocked, StoreDamaged, StoreTooNew, StoreUnwritable, StoreFull: the file is left as it was.
        """
        held = FolderLock(lock or path.with_name("lock"))
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            loop = asyncio.get_running_loop()
            database, objects, past = await loop.run_in_executor(
                thread, _load, path, max_changes, max_bytes, synchronous, reserve_bytes, find_fault
            )
        except BaseException:
            thread.shutdown()
            held.release()
            raise
        return cls(database, objects, past, held, thread)

    @property
    def revision(self) -> int:
        """The last committed revision."""
        return self._history.revision

    @property
    def compacted(self) -> int:
        """The oldest revision after which a watch can still start."""
        return self._history.compacted

    async def faults(self) -> Sequence[Fault]:
        """Rows that were set aside when the store was opened, now or at an earlier start."""
        return await self._on_thread(self._database.faults)

    def get(self, resource: str, key: ObjectKey) -> Stored | None:
        """The object as committed, None when there is none."""
        return self._objects.get(resource, key)

    def list(self, resource: str, namespace: str | None) -> tuple[list[Stored], int]:
        """The objects of a namespace (None: of all) in key order, and the revision they are as of."""
        return self._objects.list(resource, namespace), self.revision

    def watch(self, resource: str, namespace: str | None, after: int) -> Watch:
        """Every change after the revision `after`, as an async iterator that ends when the store closes.

        Raises:
            Gone: `after` is older than the history or newer than the store; the iterator raises it too,
                once its reader has fallen behind the history.
        """
        return Watch(self._history, resource, namespace, after)

    async def write(self, change: Change) -> Stored:
        """Commits the change and returns what was written, once it is durable.

        A caller that is cancelled while it waits doesn't know whether the write happened.

        Raises:
            AlreadyExists, NotFound, Conflict: the object isn't as the change expects it.
            StoreError: the database refused (StoreFull: no space); nothing was written.
            Exception: what `change.encode` raised; nothing was written.
        """
        if self._closing or self._committer.done():
            raise _closed()
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append(_PendingChange(change, future))
        self._wake.set()
        return await future

    async def wait_broken(self) -> None:
        """Waits as long as changes can be committed; raises what ended that."""
        await asyncio.shield(self._committer)

    async def close(self) -> None:
        """Commits what waits, ends every watch, closes the file and lets go of the folder."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        await asyncio.wait([self._committer])
        self._history.close()
        try:
            await self._on_thread(self._database.close)
        finally:
            self._thread.shutdown()
            self._lock.release()
        if not self._committer.cancelled():
            self._committer.result()

    async def _on_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _commit_all(self) -> None:
        try:
            while not self._closing or self._waiting:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
                    await self._commit([waiting for waiting in taken if not waiting.future.done()])
        finally:
            _fail(self._waiting, _closed())

    async def _commit(self, taken: Sequence[_PendingChange]) -> None:
        """Commits what passes and tells everybody. No answer goes out before the commit.

        That holds for refusals too: they may rest on an earlier change of this batch, which hasn't happened
        when the commit fails.
        """
        batch = Batch(self._objects, self.revision)
        outcomes = [_attempt(batch, waiting.change) for waiting in taken]
        has_right = [waiting for waiting in taken if waiting.change.has_right_to_reserve]
        try:
            if batch.rows:
                await self._make_durable(batch, may_use_reserve=len(has_right) == len(taken))
                self._publish(batch.events)
            for waiting, outcome in zip(taken, outcomes, strict=True):
                _settle(waiting, outcome)
        except errors.StoreFull as error:
            _fail([waiting for waiting in taken if not waiting.change.has_right_to_reserve], error)
            if len(has_right) < len(taken):
                await self._commit(has_right)
            _fail(taken, error)
        except errors.StoreError as error:
            _fail(taken, error)
        finally:
            _fail(taken, _closed())

    async def _make_durable(self, batch: Batch, *, may_use_reserve: bool) -> None:
        doomed = self._history.garbage(len(batch.rows))
        commit = partial(self._database.commit, batch.rows, doomed, may_use_reserve=may_use_reserve)
        try:
            await self._on_thread(commit)
        except errors.StoreError:
            raise
        except Exception as error:
            log.exception("a commit of %d changes failed in an unforeseen way", len(batch.rows))
            raise errors.StoreError(f"the commit failed: {error}", remedy="see the daemon's log") from error
        self._history.swept(len(doomed))

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._objects.apply(event)
            self._history.append(event)
        self._history.notify()


def _load(
    path: Path,
    max_changes: int,
    max_bytes: int,
    synchronous: Synchronous,
    reserve_bytes: int,
    find_fault: FindFault,
) -> tuple[Database, Objects, EventHistory]:
    database = Database(path, synchronous, reserve_bytes=reserve_bytes)
    try:
        return database, *load(database, max_changes, max_bytes, find_fault)
    except BaseException:
        database.close()
        raise


def _attempt(batch: Batch, change: Change) -> Stored | Exception:
    try:
        return batch.add(change)
    except Exception as error:  # noqa: BLE001 - goes to whoever wrote the change
        return error


def _settle(waiting: _PendingChange, outcome: Stored | Exception) -> None:
    if waiting.future.done():
        return
    if isinstance(outcome, Exception):
        waiting.future.set_exception(outcome)
    else:
        waiting.future.set_result(outcome)


def _fail(waiting: Iterable[_PendingChange], error: errors.StoreError) -> None:
    """Fails whoever has no answer yet. Each gets a copy, since a raised error collects tracebacks."""
    for each in waiting:
        if not each.future.done():
            each.future.set_exception(copy.copy(error))


def _closed() -> errors.StoreError:
    return errors.StoreError("the store is closed", remedy="start the yard again with gpuyard up")
