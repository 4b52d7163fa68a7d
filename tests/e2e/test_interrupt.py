"""Ctrl-C while following: the command detaches, the run goes on."""

from __future__ import annotations

import signal

import pytest

from .shell import NOWHERE, Shell


@pytest.mark.parametrize("command", ["run", "logs"])
def test_it_detaches_with_0_and_the_run_goes_on(target: Shell, command: str) -> None:
    arguments = ("-n", "steady", "--", "sh", "-c", f"echo started; {target.waiting}; echo end")
    if command == "logs":
        target.ok("run", "-d", *arguments)
        follower = target.start("logs", "-f", "steady")
    else:
        follower = target.start("run", *arguments)
    follower.wait_for("started\n")
    follower.process.send_signal(signal.SIGINT)
    result = follower.finish()
    assert (result.code, result.out) == (0, "started\n")
    assert "gpuyard logs -f steady" in result.err
    assert target.state("steady")["state"] == "running"
    target.open_gate("steady")
    again = target.call("logs", "-f", "steady")
    assert (again.code, again.out) == (0, "started\nend\n")


def test_while_it_waits_too(target: Shell) -> None:
    follower = target.start("run", "-n", "waiter", *NOWHERE, "--", "true")
    follower.wait_for("waiter: pending: ")
    follower.process.send_signal(signal.SIGINT)
    result = follower.finish()
    assert result.code == 0
    assert "gpuyard logs -f waiter" in result.err
    assert target.state("waiter")["state"] == "pending"


def test_a_reader_that_leaves_is_no_error(target: Shell) -> None:
    # More than pipes hold, and less than a node keeps in one file.
    target.ok("run", "-d", "-n", "much", "--", "seq", "200000")
    target.wait_for("much", "running", "succeeded")
    done = target.bash("$GPUYARD | head -1", "logs", "-f", "much")
    assert (done.stdout, done.stderr) == ("1\n", "")
