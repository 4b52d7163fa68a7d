"""Writes until it is killed: run by test_store_kill as a process of its own.

Usage: kill_writer.py DATABASE HISTORY WRITERS ROUND. Each writer makes, changes twice and deletes its
object, over and over; each acknowledgement is one line `VERB NAME REVISION VALUE` on standard output, sent
as soon as it came.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from gpuyard.kube.objects import ObjectKey
from gpuyard.local.store import Change, Store, Stored


async def main(path: Path, history: int, writers: int, round_: str) -> None:
    store = await Store.open(path, max_changes=history)
    async with asyncio.TaskGroup() as group:
        for number in range(writers):
            group.create_task(_write(store, f"writer-{number}", round_))


async def _write(store: Store, name: str, round_: str) -> None:
    key = ObjectKey("default", name)
    count = 0
    while True:
        current = store.get("pods", key)
        count += 1
        # Long values, so that the log is also written back into the file now and then.
        value = f"{round_}.{count}.{'x' * (count * 37 % 3000)}".encode()
        change = _change(key, current, count, value)
        _acknowledge(change.verb, await store.write(change))


def _change(key: ObjectKey, current: Stored | None, count: int, value: bytes) -> Change:
    if current is None:
        return Change.create("pods", key, lambda r: value)
    if count % 4 == 0:
        return Change.delete("pods", key, current.revision, lambda r: value)
    return Change.replace("pods", key, current.revision, lambda r: value)


def _acknowledge(verb: str, written: Stored) -> None:
    # At most PIPE_BUF bytes, so a line is there whole or not at all.
    line = f"{verb} {written.key.name} {written.revision} {written.value.decode()}\n".encode()
    assert len(line) <= 4096
    os.write(1, line)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
