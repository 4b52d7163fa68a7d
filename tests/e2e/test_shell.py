"""`shell`: a run that is there for a terminal, and ends with it."""

from __future__ import annotations

import signal

from tests.terminal import Terminal
from tests.waiting import until

from .shell import Shell


def opened(target: Shell, *options: str) -> Terminal:
    words = target.words("shell", *target.run_options, *options)
    return Terminal(words, {**target.environ, "SHELL": "", "TERM": "xterm-256color"}, target.work)


def test_a_shell_has_its_gpu_and_its_terminal_and_its_run_ends_with_it(target: Shell) -> None:
    with opened(target, "-n", "mine", "--gpus", "1", "--env", "SHELL=/bin/sh") as terminal:
        terminal.wait_for("mine is there for this shell")
        target.wait_for("mine", "running")
        terminal.type("echo $TERM-$((40+2)); stty size\n")
        terminal.wait_for("xterm-256color-42")
        terminal.wait_for("24 80")
        assert target.state("mine")["gpus"] == 1
        terminal.type("exit 9\n")
        assert terminal.finish() == 9
        assert terminal.settings == terminal.before
    target.wait_for("mine", "failed")
    assert target.state("mine")["exit_code"] == 9


def test_a_lost_terminal_ends_its_run(target: Shell) -> None:
    with opened(target, "-n", "lost") as terminal:
        terminal.wait_for("lost is there for this shell")
        target.wait_for("lost", "running")
        terminal.type("echo wi''th it\n")
        terminal.wait_for("with it")
        path = f"/api/v1/namespaces/{target.namespace}/pods?labelSelector=gpuyard.io/run=lost"
        until(lambda: target.get(path)["items"], "somebody says that it is there", _says_so)
        terminal.hang_up()
        assert terminal.process.wait() == 128 + signal.SIGHUP
    target.wait_for("lost", "stopped")


def test_a_shell_whose_time_is_used_up_says_so(target: Shell) -> None:
    with opened(target, "-n", "late", "--timeout", "5s") as terminal:
        terminal.wait_for("\nlate failed: it ran longer than its timeout of 5 s")
        assert terminal.finish() == 124
        assert terminal.settings == terminal.before


def _says_so(pods: list[dict[str, dict[str, dict[str, str]]]]) -> bool:
    return "gpuyard.io/terminal" in pods[0]["metadata"].get("annotations", {})


def test_without_a_terminal_there_is_no_shell(target: Shell) -> None:
    assert "A shell needs a terminal" in target.refused(2, "shell", "--gpus", "1")
