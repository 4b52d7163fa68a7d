"""kill -9 of the daemon while clients write: what was acknowledged is there, and time never runs back."""

from __future__ import annotations

import http.client
import random
import threading
from dataclasses import dataclass, field

import pytest

from tests.waiting import until

from .conftest import Refused, Yard, kill

MAPS = "/api/v1/namespaces/default/configmaps"
ROUNDS = 30
WRITERS = 4


@dataclass
class Writer:
    """Creates ConfigMaps until the daemon is gone; remembers each answer, and what it doesn't know."""

    yard: Yard
    prefix: str
    acknowledged: dict[str, int] = field(default_factory=dict)

    def write(self) -> None:
        """Ends when no answer comes any more; the one that was under way may or may not have been made."""
        number = 0
        while True:
            name = f"{self.prefix}-{number}"
            try:
                made = self.yard.api("POST", MAPS, {"metadata": {"name": name}, "data": {"text": "x" * 500}})
            except (OSError, http.client.HTTPException, ValueError):
                return
            self.acknowledged[name] = int(made["metadata"]["resourceVersion"])
            number += 1


def _wait_for_writes(writers: list[Writer], count: int) -> None:
    until(lambda: sum(len(writer.acknowledged) for writer in writers) >= count, f"{count} writes")


@pytest.mark.slow
def test_no_acknowledged_write_is_lost_and_no_resource_version_is_used_twice(stopped_yard: Yard) -> None:
    rng = random.Random(7)
    acknowledged: dict[str, int] = {}
    newest = 0
    for number in range(ROUNDS):
        stopped_yard.ok("up")
        before = int(stopped_yard.api("GET", MAPS)["metadata"]["resourceVersion"])
        # Time doesn't run back over a crash, whatever was acknowledged.
        assert before >= newest
        pid = int(stopped_yard.paths.lock.read_text())
        writers = [Writer(stopped_yard, f"r{number}w{writer}") for writer in range(WRITERS)]
        threads = [threading.Thread(target=writer.write) for writer in writers]
        for thread in threads:
            thread.start()
        _wait_for_writes(writers, rng.randrange(1, 60))
        kill(pid)
        for thread in threads:
            thread.join()
        for writer in writers:
            assert not acknowledged.keys() & writer.acknowledged.keys()
            acknowledged |= writer.acknowledged
        newest = max(newest, *acknowledged.values())
    stopped_yard.ok("up")
    there = {
        item["metadata"]["name"]: int(item["metadata"]["resourceVersion"])
        for item in stopped_yard.api("GET", MAPS)["items"]
    }
    lost = {name for name, version in acknowledged.items() if there.get(name) != version}
    assert not lost
    assert len(set(there.values())) == len(there)
    # At most the write under way of each writer was made without an answer.
    assert len(there) - len(acknowledged) <= ROUNDS * WRITERS
    with pytest.raises(Refused):
        stopped_yard.api("POST", MAPS, {"metadata": {"name": next(iter(acknowledged))}})
