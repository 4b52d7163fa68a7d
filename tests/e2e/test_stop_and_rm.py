"""`stop` ends a run gently and keeps what it left; `rm` takes that away."""

from __future__ import annotations

import pytest

from .conftest import Yard

CAREFUL = """
import signal, sys, time
def save(number, frame):
    print("saved", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""


def test_stop_lets_the_run_save_its_work(yard: Yard) -> None:
    yard.script("careful.py", CAREFUL)
    follower = yard.start("run", "-n", "careful", "careful.py", "--gpus", "1")
    follower.wait_for("ready\n")
    assert yard.ok("stop", "careful") == "Stopped careful.\n"
    found = yard.state("careful")
    assert (found["state"], found["reason"], found["exit_code"]) == ("stopped", "StoppedByUser", 7)
    assert yard.ok("logs", "careful") == "ready\nsaved\n"
    result = follower.finish()
    assert (result.code, result.out) == (7, "ready\nsaved\n")
    assert yard.json("nodes")[0]["gpus_free"] == 8
    assert yard.ok("stop", "careful") == "careful has ended already.\n"


def test_a_stopped_run_is_not_tried_again(yard: Yard) -> None:
    yard.background("stubborn", "--retries", "5", "--", "sh", "-c", "echo once; sleep 600")
    yard.wait_for_line("stubborn", "once")
    yard.ok("stop", "stubborn")
    found = yard.state("stubborn")
    assert (found["state"], found["exit_code"], len(found["attempts"])) == ("stopped", 143, 1)


def test_a_waiting_run_is_stopped_before_it_starts(yard: Yard) -> None:
    yard.background("holder", "--gpus", "8", "--", "sleep", "600")
    yard.ok("run", "-d", "-n", "waiter", "--gpus", "1", "--", "echo", "never")
    yard.ok("stop", "waiter")
    found = yard.state("waiter")
    assert (found["state"], found["exit_code"], found["started_at"]) == ("stopped", None, None)
    yard.ok("stop", "holder")
    assert yard.state("waiter")["state"] == "stopped"
    assert yard.ok("logs", "waiter") == ""


def test_several_are_stopped_at_once(yard: Yard) -> None:
    yard.background("one", "--", "sleep", "600")
    yard.background("two", "--", "sleep", "600")
    yard.ok("stop", "one", "two")
    assert {run["state"] for run in yard.json("ps")} == {"stopped"}


def test_rm_takes_a_run_with_everything_that_it_left(yard: Yard) -> None:
    yard.ok("run", "-n", "old", "--", "echo", "hi")
    assert yard.ok("rm", "old") == "Removed old.\n"
    assert yard.json("ps") == []
    assert "'old'" in yard.refused(2, "logs", "old")
    assert yard.ok("run", "-n", "old", "--", "echo", "new") == "new\n"


def test_rm_refuses_a_run_that_goes_on(yard: Yard) -> None:
    yard.background("alive", "--gpus", "8", "--", "sleep", "600")
    said = yard.refused(2, "rm", "alive")
    assert "alive has not ended" in said and "gpuyard stop alive" in said and "--force" in said
    assert yard.state("alive")["state"] == "running"
    yard.ok("rm", "--force", "alive")
    assert yard.json("ps") == []
    # Its GPUs are free again.
    assert yard.ok("run", "--gpus", "8", "--", "echo", "next") == "next\n"


def test_rm_of_everything_that_has_ended(yard: Yard) -> None:
    assert yard.call("rm", "--ended").err == "Nothing to remove.\n"
    yard.ok("run", "--", "true")
    yard.background("alive", "--", "sleep", "600")
    yard.ok("rm", "--ended")
    assert [run["name"] for run in yard.json("ps")] == ["alive"]


def test_rm_with_unknown_names_removes_nothing(yard: Yard) -> None:
    yard.ok("run", "-n", "known", "--", "true")
    said = yard.refused(2, "rm", "known", "one", "two")
    assert "no run 'one' and no run 'two'" in said and "nothing was done" in said
    assert [run["name"] for run in yard.json("ps")] == ["known"]


@pytest.mark.parametrize("arguments", [(), ("--ended", "name")])
def test_rm_wants_names_or_ended(yard: Yard, arguments: tuple[str, ...]) -> None:
    assert "--ended" in yard.refused(2, "rm", *arguments)


def test_following_a_run_that_is_removed_ends(yard: Yard) -> None:
    follower = yard.start("run", "-n", "gone", "--", "sh", "-c", "echo here; sleep 600")
    follower.wait_for("here\n")
    yard.ok("rm", "--force", "gone")
    result = follower.finish()
    assert result.code == 125
    assert "removed" in result.err
