"""kill -9 of the daemon: processes go on, and the next daemon knows the truth about every run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path

from tests.terminal import Terminal
from tests.waiting import until

from .conftest import Yard, alive, kill, processes
from .shell import Command

#: Counts until it may end; says its own pid as the host knows it, from the outside of any namespace.
STEADY = "i=0; until [ -e end ]; do i=$((i+1)); echo $i; sleep 0.01; done; echo last; exit 5"


def pids_of(yard: Yard, name: str) -> set[int]:
    """Pids of a run's processes, as the host sees them."""
    pods = yard.api("GET", f"/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run={name}")["items"]
    return set(processes([f"GPUYARD_CONTAINER={pod['metadata']['uid']}_".encode() for pod in pods]))


def shell_of(yard: Yard, name: str) -> int:
    """The one of its processes that is the shell: those that it calls come and go."""
    (found,) = (pid for pid in pids_of(yard, name) if comm(pid) == "sh")
    return found


def removed(folder: Path) -> bool:
    with suppress(OSError):  # a file came into it meanwhile
        shutil.rmtree(folder)
        return True
    return False


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def wait_for_more(follower: Command) -> None:
    """Returns when it has printed twenty lines more."""
    seen = len(follower.out.splitlines())
    until(lambda: len(follower.out.splitlines()) > seen + 20, "the follower goes on")


def assert_complete(lines: list[str]) -> None:
    assert lines[-1] == "last"
    assert lines[:-1] == [str(number) for number in range(1, len(lines))]


def test_a_run_goes_on_with_the_same_process_and_whole_logs(own_yard: Yard) -> None:
    own_yard.background("steady", "--gpus", "2", "--", "sh", "-c", STEADY)
    own_yard.wait_for_line("steady", "10")
    shell = shell_of(own_yard, "steady")
    devices = own_yard.state("steady")["attempts"][0]["devices"]
    own_yard.kill_daemon()
    assert alive(shell)
    for arguments in (("ps",), ("status",)):
        said = own_yard.refused(1, *arguments)
        assert f"stopped (data in {own_yard.home}), but 1 of its runs goes on (pod steady-" in said
        assert "gpuyard up" in said
    assert "1 of its runs goes on (pod steady-" in own_yard.ok("down")
    said = own_yard.refused(1, "down", "--stop")
    assert "1 of its runs goes on" in said and "gpuyard up && gpuyard down --stop" in said
    own_yard.ok("up")
    found = own_yard.state("steady")
    assert (found["state"], found["attempts"][0]["devices"]) == ("running", devices)
    assert shell == shell_of(own_yard, "steady")
    assert own_yard.json("nodes")[0]["gpus_free"] == 6
    # GPUs of a run that was adopted aren't given away.
    seen = (
        own_yard.ok("run", "--gpus", "6", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES").strip().split(",")
    )
    assert not set(seen) & set(devices)
    own_yard.script("end", "")
    found = own_yard.wait_for("steady", "failed")
    assert (found["exit_code"], len(found["attempts"])) == (5, 1)
    assert_complete(own_yard.ok("logs", "steady").splitlines())


def test_a_run_that_ended_while_the_daemon_was_away(own_yard: Yard) -> None:
    ends = {"good": "exit 0", "bad": "exit 9", "killed": "kill -KILL $$"}
    for name, end in ends.items():
        wait = f"until [ -e end ]; do sleep 0.02; done; echo last words; {end}"
        own_yard.background(name, "--gpus", "1", "--", "sh", "-c", wait)
    pids = {pid for name in ends for pid in pids_of(own_yard, name)}
    own_yard.kill_daemon()
    own_yard.script("end", "")
    until(lambda: not any(map(alive, pids)), "all have ended")
    own_yard.ok("up")
    expected = {
        "good": ("succeeded", "Completed", 0),
        "bad": ("failed", "ExitCode", 9),
        "killed": ("failed", "Signal", 137),
    }
    for name, outcome in expected.items():
        found = own_yard.wait_for(name, "succeeded", "failed")
        assert (found["state"], found["reason"], found["exit_code"]) == outcome
        assert own_yard.ok("logs", name) == "last words\n"
    until(lambda: own_yard.json("nodes")[0]["gpus_free"] == 8, "the GPUs are free")


def test_a_retry_that_was_due_while_the_daemon_was_away(own_yard: Yard) -> None:
    tries = "until [ -e end ]; do sleep 0.02; done; echo try >> tries; [ $(wc -l < tries) = 2 ]"
    own_yard.background("again", "--retries", "3", "--", "sh", "-c", tries)
    pids = pids_of(own_yard, "again")
    own_yard.kill_daemon()
    own_yard.script("end", "")
    until(lambda: not any(map(alive, pids)), "the first attempt has ended")
    own_yard.ok("up")
    assert len(own_yard.wait_for("again", "succeeded", "failed")["attempts"]) == 2
    assert own_yard.state("again")["exit_code"] == 0


def test_a_stopped_and_a_removed_run_stay_so(own_yard: Yard) -> None:
    stubborn = 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
    for name in ("halting", "going"):
        own_yard.background(name, "--", "sh", "-c", stubborn)
        own_yard.wait_for_line(name, "ready")
    pids = pids_of(own_yard, "halting") | pids_of(own_yard, "going")
    own_yard.ok("stop", "--no-wait", "halting")
    own_yard.api(
        "DELETE", "/apis/batch/v1/namespaces/default/jobs/going", {"propagationPolicy": "Background"}
    )
    own_yard.kill_daemon()
    assert any(map(alive, pids))
    # The grace that they were given may be over by now; nobody waits half a minute in a test.
    for pid in pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    own_yard.ok("up")
    found = own_yard.wait_for("halting", "stopped")
    assert (found["reason"], found["exit_code"]) == ("StoppedByUser", 137)
    assert own_yard.ok("logs", "halting") == "ready\n"
    until(lambda: [run["name"] for run in own_yard.json("ps")] == ["halting"], "the other one is gone")


def test_a_follower_neither_loses_nor_doubles_a_line(own_yard: Yard) -> None:
    follower = own_yard.start("run", "-n", "steady", "--", "sh", "-c", STEADY)
    follower.wait_for("\n20\n")
    own_yard.kill_daemon()
    own_yard.ok("up")
    wait_for_more(follower)
    own_yard.kill_daemon()
    own_yard.script("end", "")
    own_yard.ok("up")
    result = follower.finish()
    assert result.code == 5
    assert_complete(result.out.splitlines())
    assert result.out == own_yard.ok("logs", "steady")


def test_followers_outlive_an_orderly_restart(own_yard: Yard) -> None:
    own_yard.background("steady", "--", "sh", "-c", STEADY)
    own_yard.wait_for_line("steady", "20")
    followers = [own_yard.start("logs", "-f", *arguments, "steady") for arguments in ((), ("--tail", "5"))]
    until(lambda: all(follower.out for follower in followers), "the followers follow")
    own_yard.ok("down", "--keep")
    for follower in followers:
        follower.wait_for("the yard is away; steady goes on, waiting")
    own_yard.ok("up")
    for follower in followers:
        wait_for_more(follower)
    own_yard.script("end", "")
    whole, tail = (follower.finish() for follower in followers)
    assert whole.code == tail.code == 5
    assert_complete(whole.out.splitlines())
    lines = tail.out.splitlines()
    assert lines == whole.out.splitlines()[-len(lines) :]
    # A line of ours, none of the library's log.
    for result in (whole, tail):
        assert "trying again" not in result.err and "doesn't answer" not in result.err


def test_a_follower_of_a_waiting_run_sees_it_start(own_yard: Yard) -> None:
    own_yard.background("holder", "--gpus", "8", "--", "sleep", "600")
    follower = own_yard.start("run", "-n", "waiter", "--gpus", "1", "--", "echo", "at last")
    follower.wait_for("waiter: pending: needs 1 GPU, 0 free on ")
    own_yard.kill_daemon()
    own_yard.ok("up")
    own_yard.ok("stop", "holder")
    result = follower.finish()
    assert (result.code, result.out) == (0, "at last\n")


def test_submitting_while_the_daemon_dies_makes_a_run_once_or_says_that_it_did_not(own_yard: Yard) -> None:
    """Whatever moment the kill hits, a submit that was acknowledged is there, and ran exactly once."""
    acknowledged = []
    for number in range(4):
        name = f"run-{number}"
        submit = own_yard.start("run", "-d", "-n", name, "--", "sh", "-c", f"echo x >> {name}")
        timer = threading.Timer(0.08 * number, kill, [own_yard.status()["daemon_pid"]])
        timer.start()
        # It may start the yard anew, fail to reach the dying one, or be through already.
        if submit.finish().code == 0:
            acknowledged.append(name)
        timer.join()
        own_yard.ok("up")
    for name in acknowledged:
        own_yard.wait_for(name, "succeeded")
        assert (own_yard.work / name).read_text() == "x\n"
    for run in own_yard.json("ps"):
        assert run["state"] == "succeeded" or run["name"] not in acknowledged


def test_an_agent_that_is_killed_comes_back_with_its_gpus(own_yard: Yard) -> None:
    own_yard.background("steady", "--gpus", "2", "--", "sh", "-c", STEADY)
    shell = shell_of(own_yard, "steady")
    devices = own_yard.state("steady")["attempts"][0]["devices"]
    old = own_yard.status()["agent_pid"]
    kill(old)
    until(lambda: own_yard.status()["agent_pid"] not in (None, old), "there is another agent")
    until(lambda: own_yard.status()["gpus"]["allocatable"] == 8, "the GPUs are back")
    assert shell == shell_of(own_yard, "steady")
    seen = (
        own_yard.ok("run", "--gpus", "6", "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES").strip().split(",")
    )
    assert len(set(seen) | set(devices)) == 8
    own_yard.script("end", "")
    assert own_yard.wait_for("steady", "failed")["exit_code"] == 5


def test_the_agent_does_not_outlive_its_daemon(own_yard: Yard) -> None:
    agent = own_yard.status()["agent_pid"]
    assert alive(agent)
    own_yard.kill_daemon()
    until(lambda: not alive(agent), "the agent is gone")


def test_a_cleaner_of_tmp_costs_nothing(own_yard: Yard) -> None:
    own_yard.ok("run", "-d", "--name", "long", "--gpus", "1", "--", "sh", "-c", own_yard.waiting)
    pid = own_yard.status()["daemon_pid"]
    until(lambda: removed(own_yard.paths.runtime_dir), "no process makes a file in it meanwhile")
    assert own_yard.status()["daemon_pid"] == pid
    assert "already" in own_yard.ok("up")
    assert "long" in own_yard.ok("ps")
    devices = own_yard.paths.device_plugins_dir
    until(lambda: list(devices.glob("gpuyard-*.sock")), "the plugin serves again")
    until(lambda: own_yard.status()["gpus"]["allocatable"] == 8, "the GPUs are there again")
    assert "seen" in own_yard.ok("run", "--gpus", "1", "--", "echo", "seen")
    own_yard.open_gate("long")
    until(lambda: "succeeded" in own_yard.ok("ps", "-a"), "the run ends")
    own_yard.paths.api_socket.unlink()
    own_yard.ok("ps")
    own_yard.paths.running.unlink()
    own_yard.ok("up")


def test_what_was_run_beside_a_run_ends_with_the_daemon_or_when_the_next_one_starts(own_yard: Yard) -> None:
    own_yard.background("train", "--", "sleep", "600")
    (pod,) = own_yard.get("/api/v1/namespaces/default/pods")["items"]
    beside = [f"GPUYARD_EXEC={pod['metadata']['uid']}_".encode()]
    own_yard.ok("exec", "train", "--", "sh", "-c", "nohup sleep 602 >/dev/null 2>&1 &")
    left_on_purpose = set(processes(beside))
    assert left_on_purpose
    command = own_yard.start("exec", "train", "--", "sh", "-c", "sleep 601 & echo on; wait")
    command.wait_for("on")
    assert len(set(processes(beside)) - left_on_purpose) >= 2
    own_yard.kill_daemon()
    assert command.finish().code == 1
    until(lambda: "sh" not in {comm(pid) for pid in processes(beside)}, "the command itself has ended")
    own_yard.ok("up")
    until(lambda: set(processes(beside)) == left_on_purpose, "nothing of it is left, and all that was left")
    assert own_yard.state("train")["state"] == "running"


def test_the_terminal_of_a_process_goes_on(own_yard: Yard) -> None:
    job = json.loads(own_yard.ok("run", "--dry-run", "-o", "json", "-n", "typed", "--", "sh", "-i"))
    job["spec"]["template"]["spec"]["containers"][0] |= {"stdin": True, "tty": True}
    own_yard.api("POST", "/apis/batch/v1/namespaces/default/jobs", job)
    own_yard.wait_for("typed", "running")
    attach = own_yard.words("attach", "typed")
    with Terminal(attach, own_yard.environ, own_yard.work) as terminal:
        terminal.type("kept=by''-it; echo $kept\n")
        terminal.wait_for("by-it\r\n")
        own_yard.kill_daemon()
        terminal.finish()
        assert terminal.settings == terminal.before
    own_yard.ok("up")
    with Terminal(attach, own_yard.environ, own_yard.work) as terminal:
        terminal.type("echo still $kept\n")
        terminal.wait_for("still by-it\r\n")
        terminal.type("\x10\x11")
        assert terminal.finish() == 0
    with Terminal(attach, own_yard.environ, own_yard.work) as terminal:
        terminal.type("exit 9\n")
        assert terminal.finish() == 9
