"""Somebody else is on a GPU: it is given to nobody, all say who it is, and it is offered once it is free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.waiting import until

from .conftest import Yard

ALICE = {"gpu": "3", "pid": 4711, "memory_mib": 21504, "user": "alice", "command": "python"}


def occupy(yard: Yard, *processes: dict[str, Any]) -> None:
    file = yard.paths.simulated_health
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps({"processes": processes}))
    draft.rename(file)


def gpus_of(yard: Yard) -> int:
    return int(yard.json("nodes")[0]["gpus"])


@pytest.fixture
def gpus(yard: Yard) -> Iterator[Yard]:
    until(lambda: gpus_of(yard) == 8, "all GPUs can be had")
    yield yard
    yard.paths.simulated_health.unlink(missing_ok=True)
    until(lambda: gpus_of(yard) == 8, "all GPUs can be had again")


def test_who_is_on_a_gpu_is_named_and_it_is_not_given_out(gpus: Yard) -> None:
    yard, node = gpus, gpus.status()["node"]
    occupy(yard, ALICE)
    until(lambda: gpus_of(yard) == 7, "one GPU can't be had any more")
    said = "held by alice, pid 4711 (python), 21 GiB, not a run"
    until(
        lambda: yard.ok("nodes"),
        "the node says who it is",
        lambda out: f"GPU 3 of node {node}: {said}" in out,
    )
    (occupant,) = yard.json("nodes")[0]["occupants"]
    assert (occupant["index"], occupant["pid"], occupant["user"]) == (3, 4711, "alice")
    # It isn't a fault.
    assert yard.json("nodes")[0]["faults"] == []

    yard.ok("run", "-d", "-n", "waiter", "--gpus", "8", "--", "true")
    explained = until(lambda: yard.ok("explain", "waiter"), "it is explained", lambda out: said in out)
    assert "8 GPUs, 1 held by others, 0 allotted, 7 free, needs 8" in explained
    assert "wait until others leave GPU 3" in explained
    assert "gpuyard up --share-with-others" in explained
    assert "unhealthy" not in explained
    found = yard.json("explain", "waiter")["explanation"]["nodes"][0]
    assert (found["faults"], found["occupants"][0]["pid"]) == ([], 4711)
    assert f"1 of 8 GPUs can't be had (simulated): GPU 3: {said}" in yard.call("doctor").out

    # The others can be had meanwhile, and this one as soon as it is free.
    yard.ok("run", "-n", "seven", "--gpus", "7", "--", "true")
    occupy(yard)
    assert yard.wait_for("waiter", "succeeded")["exit_code"] == 0


def test_a_gpu_that_a_run_has_is_counted_once(gpus: Yard) -> None:
    gpus.background("trainer", "--gpus", "8", "--", "sleep", "600")
    occupy(gpus, ALICE)
    used = "GPU 3 of node"
    until(
        lambda: gpus.ok("nodes"), "it is told", lambda out: used in out and "used by alice, pid 4711" in out
    )
    assert (gpus_of(gpus), gpus.json("nodes")[0]["gpus_free"]) == (8, 0)


def test_a_yard_may_share(stopped_yard: Yard) -> None:
    yard = stopped_yard
    occupy(yard, {**ALICE, "gpu": "0"})
    yard.ok("up", "--simulate", "H100:1", "--share-with-others")
    until(lambda: yard.ok("nodes"), "it says who is there", lambda out: "used by alice, pid 4711" in out)
    yard.ok("run", "-n", "beside", "--gpus", "1", "--", "true")
    refused = yard.refused(1, "up", "--no-share-with-others")
    assert "it gives out GPUs that processes of others are on" in refused
    yard.ok("down", "--keep")
    # Kept, until something else is said.
    yard.ok("up")
    assert "beside" in yard.ok("ps")
    until(lambda: gpus_of(yard) == 1, "the GPU can be had")
    yard.ok("down", "--keep")
    yard.ok("up", "--no-share-with-others")
    until(lambda: yard.ok("nodes"), "nobody gets it", lambda out: "held by alice, pid 4711" in out)
    assert gpus_of(yard) == 0
