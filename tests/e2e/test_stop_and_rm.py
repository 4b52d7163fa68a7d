"""`stop` ends a run gently and keeps what it left; `rm` takes that away."""

from __future__ import annotations

import pytest

from .conftest import Yard
from .shell import NOWHERE, Shell

CAREFUL = """
import signal, sys, time
def save(number, frame):
    print("saved", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""


def test_stop_lets_the_run_save_its_work(target: Shell) -> None:
    target.script("careful.py", CAREFUL)
    follower = target.start("run", "-n", "careful", "careful.py", "--gpus", "1")
    follower.wait_for("ready\n")
    assert target.ok("stop", "careful") == "Stopped careful.\n"
    found = target.state("careful")
    assert (found["state"], found["reason"], found["exit_code"]) == ("stopped", "StoppedByUser", 7)
    assert target.ok("logs", "careful") == "ready\nsaved\n"
    result = follower.finish()
    assert (result.code, result.out) == (7, "ready\nsaved\n")
    if target.is_yard:  # others use the cluster, too
        assert target.json("nodes")[0]["gpus_free"] == 8
    assert target.ok("stop", "careful") == "careful has ended already.\n"


#: A line of shell, and what it prints when it is stopped after its first word.
PIPED = "python3 -c '" + CAREFUL.replace("sys.exit(7)", """
    for step in range(50):
        print("step", step, flush=True)
        time.sleep(0.005)
    sys.exit(7)
""") + "' 2>&1 | tee /tmp/log; echo never"  # fmt: skip
PIPED_SAYS = "ready\nsaved\n" + "".join(f"step {step}\n" for step in range(50))


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_program_before_tee_saves_when_its_run_is_stopped(target: Shell, shell: str) -> None:
    target.ok("run", "-d", "-n", "piped", "--shell", shell, "--", PIPED)
    target.wait_for_line("piped", "ready")
    target.ok("stop", "piped")
    found = target.state("piped")
    assert (found["state"], found["exit_code"]) == ("stopped", 143)
    assert target.ok("logs", "piped") == PIPED_SAYS


def test_stop_says_what_it_waits_for(target: Shell) -> None:
    deaf = f"trap '' TERM; echo ready; {target.waiting}; exit 0"
    target.background("deaf", "--", "sh", "-c", deaf)
    target.wait_for_line("deaf", "ready")
    stopping = target.start("stop", "deaf")
    stopping.wait_for(
        "Waiting for deaf: its processes have got SIGTERM, and get SIGKILL 30 s after it (pod deaf-"
    )
    target.open_gate("deaf")
    assert stopping.finish().out == "Stopped deaf.\n"
    reasons = {event["reason"] for event in target.state("deaf")["events"]}
    assert reasons and "BackoffLimitExceeded" not in reasons


def test_no_event_of_a_stopped_run_warns_of_its_back_off_limit(yard: Yard) -> None:
    yard.background("stopped", "--", "sleep", "600")
    yard.ok("stop", "stopped")
    events = yard.get("/api/v1/namespaces/default/events")["items"]
    reasons = [e["reason"] for e in events if e["involvedObject"]["name"] == "stopped"]
    assert "Stopped" in reasons and "BackoffLimitExceeded" not in reasons


@pytest.mark.parametrize("arguments", [("rm", "--force"), ("run", "-d", "--replace", "-n")])
def test_removing_says_what_it_waits_for(yard: Yard, arguments: tuple[str, ...]) -> None:
    yard.background("deaf", "--", "sh", "-c", f"trap '' TERM; echo ready; {yard.waiting}")
    yard.wait_for_line("deaf", "ready")
    command = yard.start(*arguments, "deaf", *(("--", "true") if arguments[0] == "run" else ()))
    command.wait_for("Waiting for deaf: its processes have got SIGTERM")
    yard.open_gate("deaf")
    assert command.finish().code == 0


def test_a_signal_and_a_grace_of_one_s_own(yard: Yard) -> None:
    yard.script("careful.py", CAREFUL.replace("SIGTERM", "SIGINT"))
    yard.background("careful", "careful.py")
    yard.wait_for_line("careful", "ready")
    assert "no signal" in yard.refused(2, "stop", "--signal", "NONE", "careful")
    yard.ok("stop", "--signal", "int", "careful")
    assert yard.state("careful")["exit_code"] == 7
    yard.background("deaf", "--", "sh", "-c", f"trap '' TERM; echo ready; {yard.waiting}")
    yard.wait_for_line("deaf", "ready")
    yard.ok("stop", "--no-wait", "--grace", "1h", "deaf")
    assert yard.ok("stop", "--grace", "0", "deaf") == "Stopped deaf.\n"
    assert yard.state("deaf")["exit_code"] == 137


def test_a_stopped_run_is_not_tried_again(target: Shell) -> None:
    target.background("stubborn", "--retries", "5", "--", "sh", "-c", "echo once; sleep 600")
    target.wait_for_line("stubborn", "once")
    target.ok("stop", "stubborn")
    found = target.state("stubborn")
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


def test_a_run_that_waits_for_a_node_is_stopped_for_good(target: Shell) -> None:
    target.ok("run", "-d", "-n", "waiter", *NOWHERE, "--", "echo", "never")
    assert target.ok("stop", "waiter") == "Stopped waiter.\n"
    found = target.state("waiter")
    assert (found["state"], found["exit_code"], found["started_at"]) == ("stopped", None, None)
    assert target.ok("logs", "waiter") == ""
    followed = target.call("logs", "-f", "waiter")
    assert (followed.code, followed.out) == (125, "")


def test_several_are_stopped_at_once(target: Shell) -> None:
    target.background("one", "--", "sleep", "600")
    target.background("two", "--", "sleep", "600")
    said = target.refused(2, "stop", "one", "three", "two")
    assert "no run 'three'" in said and "nothing was done" in said
    assert {run["state"] for run in target.json("ps")} == {"running"}
    assert target.ok("stop", "one", "two") == "Stopped one.\nStopped two.\n"
    assert {run["state"] for run in target.json("ps")} == {"stopped"}


def test_rm_takes_a_run_with_everything_that_it_left(target: Shell) -> None:
    target.ok("run", "-n", "old", "--", "echo", "hi")
    assert target.ok("rm", "old") == "Removed old.\n"
    assert target.json("ps") == []
    assert "'old'" in target.refused(2, "logs", "old")
    assert target.ok("run", "-n", "old", "--", "echo", "new") == "new\n"


def test_rm_refuses_a_run_that_goes_on(target: Shell) -> None:
    target.background("alive", "--gpus", "8", "--", "sleep", "600")
    said = target.refused(2, "rm", "alive")
    assert "alive has not ended" in said and "gpuyard stop alive" in said and "--force" in said
    assert target.state("alive")["state"] == "running"
    target.ok("rm", "--force", "alive")
    assert target.json("ps") == []
    # Its GPUs are free again.
    assert target.ok("run", "--gpus", "8", "--", "echo", "next") == "next\n"


def test_rm_of_everything_that_has_ended(target: Shell) -> None:
    assert target.call("rm", "--ended").err == "Nothing to remove.\n"
    target.ok("run", "--", "true")
    target.background("alive", "--", "sleep", "600")
    target.ok("rm", "--ended")
    assert [run["name"] for run in target.json("ps")] == ["alive"]


def test_rm_with_unknown_names_removes_nothing(target: Shell) -> None:
    target.ok("run", "-n", "known", "--", "true")
    said = target.refused(2, "rm", "known", "one", "two")
    assert "no run 'one' in namespace" in said and "no run 'two'" in said and "nothing was done" in said
    assert [run["name"] for run in target.json("ps")] == ["known"]


def test_a_name_may_be_its_beginning_or_that_of_the_last_run(target: Shell) -> None:
    for name in ("train", "train-2", "eval"):
        target.ok("run", "-n", name, "--", "echo", name)
    assert target.ok("logs", "train") == "train\n"
    assert target.ok("logs", "e") == target.ok("logs", "-l") == target.ok("logs", "@") == "eval\n"
    assert "train, train-2" in target.refused(2, "rm", "trai", "eval")
    assert "Name a run, or say --last" in target.refused(2, "show", "-l", "train")
    assert target.ok("rm", "--last", "train-") == "Removed train-2.\nRemoved eval.\n"
    assert target.json("show", "-l")["name"] == "train"


@pytest.mark.parametrize("arguments", [(), ("--ended", "name")])
def test_rm_wants_names_or_ended(yard: Yard, arguments: tuple[str, ...]) -> None:
    assert "--ended" in yard.refused(2, "rm", *arguments)


def test_following_a_run_that_is_removed_ends(target: Shell) -> None:
    follower = target.start("run", "-n", "gone", "--", "sh", "-c", "echo here; sleep 600")
    follower.wait_for("here\n")
    target.ok("rm", "--force", "gone")
    result = follower.finish()
    assert result.code == 125
    assert "removed" in result.err
