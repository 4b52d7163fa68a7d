"""Launchers of an elastic run, as processes that meet on this machine."""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launchers import Rank, Start
from tests.waiting import until

#: Says which of how many it is, and saves when it is told to.
TRAINS = """
import os, signal, sys, time
def told(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
print("up", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], os.environ["PET_NNODES"], flush=True)
while not os.path.exists(os.environ["GATE"]): time.sleep(0.05)
"""
WIRING = {"PET_NNODES": "2:4", "PET_NPROC_PER_NODE": "1"}
Train = Callable[..., Rank]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """With this file the training is through."""
    return tmp_path / "gate"


@pytest.fixture
def train(start: Start, gate: Path) -> Train:
    return functools.partial(start, code=TRAINS, size="2..4", env={**WIRING, "GATE": str(gate)})


def are_up(*ranks: Rank) -> None:
    for place, rank in enumerate(ranks):
        until(
            lambda rank=rank: [line for line in rank.lines if line.startswith("up")][-1:],  # type: ignore[misc]
            f"it is {place} of {len(ranks)}",
            lambda last, place=place: last == [f"up {place} of {len(ranks)} {len(ranks)}"],  # type: ignore[misc]
        )


def sockets(process: Path) -> int:
    return sum("socket:" in str(link.readlink()) for link in (process / "fd").iterdir())


def without_command(rank: Rank) -> Path:
    """The launcher's folder in /proc, once its command has ended."""
    place = Path("/proc", str(rank.process.pid))
    children = place / "task" / place.name / "children"
    until(children.read_text, "its command has ended", lambda pids: not pids)
    return place


def saves(*ranks: Rank) -> list[int]:
    return [rank.lines.count("saved") for rank in ranks]


def test_it_starts_with_the_least_and_again_when_others_come_and_go(train: Train, gate: Path) -> None:
    first, second = train(0), train(1)
    are_up(first, second)
    third, last = train(2), train(3)
    are_up(first, second, third, last)
    assert first.lines[-2].startswith("gpuyard: this run starts again, since rank ")
    last.process.send_signal(signal.SIGTERM)
    assert last.wait() == 193
    assert last.lines[-2:] == ["saved", "gpuyard: this pod ends since it was stopped, and the others go on"]
    are_up(first, second, third)
    os.killpg(second.process.pid, signal.SIGKILL)
    are_up(first, third)
    gate.touch()
    assert [first.wait(), third.wait()] == [0, 0]
    assert saves(first, second, third) == [3, 2, 2]


def test_two_that_leave_at_once_save_once(train: Train) -> None:
    ranks = [train(rank) for rank in range(4)]
    are_up(*ranks)
    for rank in ranks[2:]:
        rank.process.send_signal(signal.SIGTERM)
    assert [rank.wait() for rank in ranks[2:]] == [193, 193]
    are_up(*ranks[:2])
    assert saves(*ranks[2:]) == [1, 1]


def test_too_few_end_all(train: Train) -> None:
    ranks = [train(rank) for rank in range(2)]
    are_up(*ranks)
    os.killpg(ranks[1].process.pid, signal.SIGKILL)
    assert ranks[0].wait() == 193
    assert ranks[0].lines[-1] == "gpuyard: this pod ends since rank 1 is lost"


def test_who_is_stopped_below_the_least_ends_all(train: Train) -> None:
    ranks = [train(rank) for rank in range(2)]
    are_up(*ranks)
    ranks[1].process.send_signal(signal.SIGTERM)
    assert [rank.wait() for rank in ranks] == [193, 193]
    assert saves(*ranks) == [1, 1]


def test_a_run_that_is_stopped_has_not_succeeded(train: Train) -> None:
    ranks = [train(rank) for rank in range(3)]
    are_up(*ranks)
    for rank in ranks:
        rank.process.send_signal(signal.SIGTERM)
    assert [rank.wait() for rank in ranks] == [143, 193, 193]
    assert saves(*ranks) == [1, 1, 1]


def test_one_that_fails_ends_all(train: Train) -> None:
    ranks = [train(0), train(1), train(2, code="raise SystemExit(7)")]
    assert [rank.wait() for rank in ranks] == [193, 193, 7]


def test_who_comes_when_the_others_are_through_goes(train: Train, gate: Path) -> None:
    slow_gate = gate.with_name("slow")
    first, slow = train(0), train(1, env={**WIRING, "GATE": str(slow_gate)})
    are_up(first, slow)
    gate.touch()
    place = without_command(first)
    late = train(2)
    until(lambda: sockets(place), "it listens to both", lambda count: count == 3)
    slow_gate.touch()
    assert first.wait() == 0
    assert slow.wait() == 0
    assert late.wait() == 193
    assert late.lines == ["gpuyard: this run's pods didn't start together: the others are through"]


def test_one_that_is_lost_when_another_is_through_ends_all(train: Train, gate: Path) -> None:
    """Who has ended can't start again with the rest, and these may wait for the lost one."""
    waits = {**WIRING, "GATE": str(gate.with_name("never"))}
    first, through, lost = train(0, env=waits), train(1), train(2, env=waits)
    are_up(first, through, lost)
    gate.touch()
    without_command(through)
    os.killpg(lost.process.pid, signal.SIGKILL)
    assert [first.wait(), through.wait()] == [193, 193]
    assert first.lines[-2:] == ["saved", "gpuyard: this pod ends since rank 2 is lost"]


def test_strangers_that_say_nothing_keep_nobody_out(train: Train, gate: Path, gang_port: int) -> None:
    first, second = train(0), train(1)
    are_up(first, second)
    strangers = [socket.create_connection(("localhost", gang_port)) for _ in range(60)]
    third = train(2)
    are_up(first, second, third)
    assert sockets(Path("/proc", str(first.process.pid))) < 40
    gate.touch()
    assert [rank.wait() for rank in (first, second, third)] == [0, 0, 0]
    for stranger in strangers:
        stranger.close()


def test_it_waits_for_its_least(train: Train) -> None:
    first = train(0, within_s=1)
    assert first.wait() == 195
    assert first.lines == ["gpuyard: this run's pods didn't start together: rank 1 isn't there"]
