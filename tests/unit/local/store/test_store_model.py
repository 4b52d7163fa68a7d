"""The store against a plain dictionary and a list, through every order of steps that Hypothesis thinks of."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from gpuyard import errors
from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store import Change, Event, Store, Stored, Watch
from gpuyard.local.store.values import EventType

T = TypeVar("T")

#: Small, so that compaction and 410 happen all the time.
HISTORY = 8

RESOURCES = ("pods", "jobs.batch")
KEYS = tuple(ObjectKey(namespace, name) for namespace in ("x", "y") for name in ("a", "b"))


@dataclass(frozen=True)
class Step:
    """One write to try. `stale` expects a revision that isn't current, `broken` fails to encode."""

    verb: str
    resource: str
    key: ObjectKey
    stale: bool
    broken: bool


STEPS = st.builds(
    Step,
    verb=st.sampled_from(("create", "create", "replace", "replace", "delete")),
    resource=st.sampled_from(RESOURCES),
    key=st.sampled_from(KEYS),
    stale=st.integers(0, 9).map(lambda n: n == 0),
    broken=st.integers(0, 9).map(lambda n: n == 0),
)


class Broken(Exception):
    """What a broken step's encode raises."""


@dataclass
class Model:
    """What a store is, without durability: a dictionary, a list, a number."""

    revision: int = 0
    objects: dict[tuple[str, ObjectKey], Stored] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @property
    def compacted(self) -> int:
        return max(0, self.revision - HISTORY)

    def apply(self, step: Step, expected: int) -> Stored | type[Exception]:
        place = (step.resource, step.key)
        old = self.objects.get(place)
        if step.verb == "create":
            if old is not None:
                return errors.AlreadyExists
        elif old is None:
            return errors.NotFound
        elif old.revision != expected:
            return errors.Conflict
        if step.broken:
            return Broken
        self.revision += 1
        created = old.create_revision if old else self.revision
        new = Stored(step.resource, step.key, _value(step, self.revision), self.revision, created)
        type_: EventType = "DELETED" if step.verb == "delete" else "MODIFIED" if old else "ADDED"
        self.events.append(Event(type_, new, old))
        if step.verb == "delete":
            del self.objects[place]
        else:
            self.objects[place] = new
        return new


def _value(step: Step, revision: int) -> bytes:
    return f"{step.verb} {step.key} at {revision}".encode()


def _change(step: Step, expected: int) -> Change:
    def encode(revision: int) -> bytes:
        if step.broken:
            raise Broken
        return _value(step, revision)

    if step.verb == "create":
        return Change.create(step.resource, step.key, encode)
    make = Change.replace if step.verb == "replace" else Change.delete
    return make(step.resource, step.key, expected, encode)


@dataclass
class Watcher:
    """A watch, or where one was, and what it has seen so far."""

    resource: str
    namespace: str | None
    start: int
    watch: Watch
    seen: list[Event] = field(default_factory=list)


class StoreMachine(RuleBasedStateMachine):
    watchers = Bundle("watchers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(dir="/tmp"))
        self.path = self.folder / "0" / "store.db"
        self.path.parent.mkdir()
        self.model = Model()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    @initialize()
    def open(self) -> None:
        self.store = self.do(
            Store.open(self.path, max_changes=HISTORY, synchronous="OFF", reserve_bytes=128 << 10)
        )

    @rule(steps=st.lists(STEPS, min_size=1, max_size=6))
    def write(self, steps: list[Step]) -> None:
        """All of them wait at once, so they are one batch, in this order."""
        changes, expectations = [], []
        for step in steps:
            current = self.model.objects.get((step.resource, step.key))
            expected = (current.revision if current else 0) - step.stale
            changes.append(_change(step, expected))
            expectations.append(self.model.apply(step, expected))

        async def write_all() -> list[Stored | BaseException]:
            return await asyncio.gather(*map(self.store.write, changes), return_exceptions=True)

        outcomes = self.do(write_all())
        assert [o if isinstance(o, Stored) else type(o) for o in outcomes] == expectations

    @rule()
    def restart(self) -> None:
        self.do(self.store.close())
        self.open()

    @rule()
    def crash(self) -> None:
        """Goes on with a copy of the files as they lay there, log included, and not with the closed ones."""
        crashed = self.path.parent.with_name(str(int(self.path.parent.name) + 1))
        shutil.copytree(self.path.parent, crashed)
        self.do(self.store.close())
        self.path = crashed / "store.db"
        self.open()

    @rule(
        target=watchers,
        resource=st.sampled_from(RESOURCES),
        namespace=st.sampled_from((None, "x", "y")),
        age=st.integers(0, HISTORY),
    )
    def start_watch(self, resource: str, namespace: str | None, age: int) -> Watcher:
        start = max(0, self.model.revision - age)
        return Watcher(resource, namespace, start, self.store.watch(resource, namespace, start))

    @rule(watcher=watchers)
    def read_watch(self, watcher: Watcher) -> None:
        """It hands out what the model says, all of it unless it is gone."""
        if watcher.watch._history is not self.store._history:
            self.resume_watch(watcher)
            return
        late = watcher.watch.revision < self.model.compacted
        gone = self.do(_drain(watcher))
        assert gone == late
        until = watcher.watch.revision
        assert watcher.seen == self.expected(watcher, until)
        if not gone:
            assert until == self.model.revision

    def resume_watch(self, watcher: Watcher) -> None:
        """After a restart: from where it was, as a client does."""
        position = watcher.watch.revision
        if position < self.model.compacted:
            with pytest.raises(errors.Gone):
                self.store.watch(watcher.resource, watcher.namespace, position)
            return
        watcher.watch = self.store.watch(watcher.resource, watcher.namespace, position)
        self.read_watch(watcher)

    def expected(self, watcher: Watcher, until: int) -> list[Event]:
        return [
            event
            for event in self.model.events[watcher.start : until]
            if event.stored.resource == watcher.resource
            and watcher.namespace in (None, event.stored.key.namespace)
        ]

    @rule(distance=st.integers(1, 5))
    def watch_out_of_reach(self, distance: int) -> None:
        for after in (self.model.compacted - distance, self.model.revision + distance):
            with pytest.raises(errors.Gone):
                self.store.watch("pods", None, after)

    @invariant()
    def reads_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        assert (self.store.revision, self.store.compacted) == (self.model.revision, self.model.compacted)
        for resource in RESOURCES:
            for namespace in (None, "x", "y"):
                items = [
                    self.model.objects[place]
                    for place in sorted(self.model.objects)
                    if place[0] == resource and namespace in (None, place[1].namespace)
                ]
                assert self.store.list(resource, namespace) == (items, self.model.revision)
            for key in KEYS:
                assert self.store.get(resource, key) == self.model.objects.get((resource, key))

    def teardown(self) -> None:
        self.do(self.check_size_and_close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    async def check_size_and_close(self) -> None:
        """Compaction keeps up: live rows, and for each event of the history its own and its previous one."""
        rows = await self.store._on_thread(lambda: len(list(self.store._database.rows())))
        await self.store.close()
        assert rows <= len(self.model.objects) + 2 * HISTORY + 12


async def _drain(watcher: Watcher) -> bool:
    """Reads what is ready, and says whether the watch was gone."""
    while True:
        reading = asyncio.ensure_future(anext(watcher.watch))
        await asyncio.sleep(0)
        if not reading.done():
            reading.cancel()
        try:
            watcher.seen.append(await reading)
        except errors.Gone:
            return True
        except asyncio.CancelledError:
            return False


TestStore = pytest.mark.slow(StoreMachine.TestCase)
TestStore.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
