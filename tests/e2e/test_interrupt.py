"""Ctrl-C while following: the command detaches, the run goes on."""

from __future__ import annotations

import signal
import subprocess

import pytest

from .conftest import Yard


@pytest.mark.parametrize("command", ["run", "logs"])
def test_it_detaches_with_0_and_the_run_goes_on(yard: Yard, command: str) -> None:
    arguments = (
        "-n",
        "steady",
        "--",
        "sh",
        "-c",
        "echo started; until [ -e go ]; do sleep 0.02; done; echo end",
    )
    if command == "logs":
        yard.ok("run", "-d", *arguments)
        follower = yard.start("logs", "-f", "steady")
    else:
        follower = yard.start("run", *arguments)
    follower.wait_for("started\n")
    follower.process.send_signal(signal.SIGINT)
    result = follower.finish()
    assert (result.code, result.out) == (0, "started\n")
    assert "gpuyard logs -f steady" in result.err
    assert yard.state("steady")["state"] == "running"
    yard.script("go", "")
    again = yard.call("logs", "-f", "steady")
    assert (again.code, again.out) == (0, "started\nend\n")


def test_while_it_waits_too(yard: Yard) -> None:
    yard.background("holder", "--gpus", "8", "--", "sleep", "600")
    follower = yard.start("run", "-n", "waiter", "--gpus", "1", "--", "true")
    follower.wait_for("waiter: pending: needs 1 GPU, 0 free on ")
    follower.process.send_signal(signal.SIGINT)
    result = follower.finish()
    assert result.code == 0
    assert "gpuyard logs -f waiter" in result.err
    assert yard.state("waiter")["state"] == "pending"


def test_a_reader_that_leaves_is_no_error(yard: Yard) -> None:
    yard.ok("run", "-d", "-n", "much", "--", "seq", "1000000")
    done = subprocess.run(
        ["bash", "-c", "gpuyard logs -f much | head -1"],
        env=yard.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
