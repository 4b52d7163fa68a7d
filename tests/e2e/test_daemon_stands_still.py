"""A daemon that stands still, as in a laptop's suspend: when it goes on, everything goes on at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.waiting import until

from .conftest import Yard, alive

#: A silent node counts as unreachable after GRACE_S, and reports itself every HEARTBEAT_S.
GRACE_S, HEARTBEAT_S = 4.0, 0.5


def test_runs_that_wait_start_after_a_stop_and_continue(stopped_yard: Yard) -> None:
    yard = stopped_yard
    periods = ("--heartbeat-s", str(HEARTBEAT_S), "--node-grace-s", str(GRACE_S))
    log = yard.home / "daemon.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "gpuyard.local.daemon", "--simulate", "H100:8", *periods],
            env=yard.environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        until(lambda: yard.call("status").code == 0, "the yard is ready")
        yard.background("first", "--gpus", "8", "--", "sh", "-c", yard.waiting)
        yard.ok("run", "-d", "--wait", "-n", "second", "--gpus", "8", "--", "true")
        yard.wait_for("second", "pending")
        before = ready_since(yard)
        pause(daemon.pid, 1.5 * GRACE_S)
        yard.open_gate("first")
        os.kill(daemon.pid, signal.SIGCONT)
        yard.wait_for("second", "succeeded")
        assert ready_since(yard) == before
        (node,) = yard.json("nodes")
        assert (node["ready"], node["not_ready"]) == (True, None)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
        daemon.terminate()
        daemon.wait(60)


def test_commands_say_that_a_stopped_daemon_does_not_answer(own_yard: Yard) -> None:
    yard = own_yard
    yard.background("quiet", "--", "sh", "-c", f"echo begun; {yard.waiting}")
    follower = yard.start("logs", "-f", "quiet")
    # Its requests are answered: what it waits for is the next piece of a stream.
    follower.wait_for("begun")
    pid = int(yard.status()["daemon_pid"])
    pause(pid)
    said = f'the yard (pid {pid}, state "stopped") doesn\'t answer'
    asked = [yard.start(*words) for words in (("ps",), ("status",), ("wait", "quiet"))]
    for command in (follower, *asked):
        command.wait_for(f"{said} yet: `kill -CONT {pid}` lets it go on")
    for words in (("up",), ("run", "--", "true")):
        refused = yard.refused(1, *words)
        assert f"{said}\n" in refused and f"`kill -CONT {pid}`" in refused, refused
    assert f"{said}" in yard.call("doctor").out
    os.kill(pid, signal.SIGCONT)
    yard.open_gate("quiet")
    for command in (follower, *asked):
        ended = command.finish()
        assert (ended.code, ended.err.count(said)) == (0, 1), ended
    assert "already" in yard.ok("up")


def test_down_ends_a_stopped_daemon_and_no_run(own_yard: Yard) -> None:
    yard = own_yard
    yard.background("goes-on", "--", "sh", "-c", f"{yard.waiting}; exit 3")
    pid = int(yard.status()["daemon_pid"])
    pause(pid)
    refused = yard.refused(1, "down")
    assert f"the yard (pid {pid}) was stopped; it goes on" in refused and "1 run is not over" in refused
    pause(pid)
    assert "The yard is down." in yard.ok("down", "--keep")
    assert not alive(pid)
    yard.ok("up")
    yard.open_gate("goes-on")
    assert yard.call("wait", "goes-on").code == 3


def ready_since(yard: Yard) -> str:
    """When the node last became ready."""
    (node,) = yard.get("/api/v1/nodes")["items"]
    (ready,) = (c for c in node["status"]["conditions"] if c["type"] == "Ready" and c["status"] == "True")
    return str(ready["lastTransitionTime"])


def pause(pid: int, seconds: float = 0.0) -> None:
    """Stops a process; returns when it has stood still for so long."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", f"{pid} stops")
    over = time.monotonic() + seconds
    until(lambda: time.monotonic() > over, "the pause is long enough")
