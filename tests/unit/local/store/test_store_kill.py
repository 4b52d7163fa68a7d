"""kill -9 in the middle of concurrent writes, again and again over the same folder."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store import Event, Store

ROUNDS = 30
#: Small enough that compaction runs all the time, large enough to hold what one round writes.
HISTORY = 3000
WRITERS = 8


@dataclass(frozen=True)
class Acknowledged:
    """One line that the writer managed to send before it died."""

    verb: str
    name: str
    revision: int
    value: bytes


_EVENT_TYPES = {"create": "ADDED", "replace": "MODIFIED", "delete": "DELETED"}


def _run_and_kill(path: Path, round_: int, acknowledgements: int) -> list[Acknowledged]:
    """Kills the writer right after so many acknowledgements; those on their way then still count."""
    script = Path(__file__).with_name("kill_writer.py")
    command = [sys.executable, str(script), str(path), str(HISTORY), str(WRITERS), str(round_)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledgements)]
        writer.kill()
        lines += writer.stdout.readlines()
    assert all(line.endswith(b"\n") for line in lines), "the writer died by itself"
    fields = [line.split() for line in lines]
    return [Acknowledged(v.decode(), n.decode(), int(r), value) for v, n, r, value in fields]


async def _events_after(store: Store, revision: int) -> list[Event]:
    watch = store.watch("pods", None, revision)
    events: list[Event] = []
    while not events or events[-1].stored.revision < store.revision:
        async with asyncio.timeout(60):
            events.append(await anext(watch))
    return events


def _replay(objects: dict[ObjectKey, bytes], events: list[Event]) -> None:
    """Applies events to a copy as a client holds it, checking that each fits onto the last."""
    for event in events:
        key = event.stored.key
        assert objects.get(key) == (event.previous.value if event.previous else None)
        assert (event.type == "ADDED") == (key not in objects)
        if event.type == "DELETED":
            del objects[key]
        else:
            objects[key] = event.stored.value


@pytest.mark.slow
async def test_no_acknowledged_write_is_lost_and_no_revision_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    copy: dict[ObjectKey, bytes] = {}
    revision = 0
    for round_ in range(ROUNDS):
        acknowledged = _run_and_kill(path, round_, random.randint(1, 400))
        store = await Store.open(path, max_changes=HISTORY)
        try:
            events = await _events_after(store, revision)
            # Every revision since the last look, each once, in order, and fit for the copy of then.
            assert [e.stored.revision for e in events] == list(range(revision + 1, store.revision + 1))
            _replay(copy, events)
            assert copy == {s.key: s.value for s in store.list("pods", None)[0]}

            by_revision = {e.stored.revision: e for e in events}
            for ack in acknowledged:
                event = by_revision[ack.revision]
                assert event.type == _EVENT_TYPES[ack.verb]
                assert (event.stored.key.name, event.stored.value) == (ack.name, ack.value)
            assert len({ack.revision for ack in acknowledged}) == len(acknowledged)
            # Written and not acknowledged: one per writer at most, since each waits for its answer.
            assert len(events) - len(acknowledged) <= WRITERS
            revision = store.revision
        finally:
            await store.close()
    assert revision > HISTORY, "too few writes for compaction to have run"
