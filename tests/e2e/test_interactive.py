"""Looking inside runs: exec, from scripts and in a real terminal."""

from __future__ import annotations

import signal

from tests.terminal import Terminal

from .shell import NOWHERE, Shell


def test_a_command_runs_beside_the_run_with_its_input_output_and_exit_code(target: Shell) -> None:
    target.background("train", "--", "sh", "-c", "sleep 600")
    line = "printf 'one\\ntwo' | $GPUYARD"
    done = target.bash(line, "exec", "train", "--", "sh", "-c", "cat; echo oops >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "one\ntwo", "oops\n")
    assert target.ok("exec", "tr", "--", "echo", "a b", "-l", "*") == "a b -l *\n"
    assert target.ok("exec", "-l", "--", "true") == ""
    assert "no program 'nosuch'" in target.refused(127, "exec", "@", "--", "nosuch")


def test_a_shell_in_a_terminal_has_its_keys_its_size_and_its_exit_code(target: Shell) -> None:
    target.background("train", "--", "sh", "-c", "sleep 600")
    words = target.words("exec", "-it", "train", "--", "bash", "--norc")
    with Terminal(words, target.environ, target.work) as terminal:
        terminal.type("echo $((40+2)); tty\n")
        terminal.wait_for("42\r\n/dev/")
        # A cluster's node tells a process of the size when it runs already.
        terminal.type(f"{_until_size('24 80')}; printf '\\e[31m%s\\e[0m\\n' red\n")
        terminal.wait_for("\x1b[31mred\x1b[0m")
        terminal.resize(132, 43)
        terminal.type(f"{_until_size('43 132')}; echo wi''de\n")
        terminal.wait_for("wide")
        terminal.type("sh -c 'echo wa''its; sleep 600'\n")
        terminal.wait_for("waits")
        terminal.type("\x03echo code $?\n")
        terminal.wait_for("code 130")
        terminal.type("exit 9\n")
        assert terminal.finish() == 9
        assert terminal.settings == terminal.before


def test_a_terminal_is_restored_when_the_command_is_ended(target: Shell) -> None:
    target.background("train", "--", "sh", "-c", "sleep 600")
    words = target.words("exec", "train", "--", "sh", "-c", "echo in it; cat")
    with Terminal(words, target.environ, target.work) as terminal:
        terminal.wait_for("in it")
        terminal.process.terminate()
        assert terminal.finish() == 128 + signal.SIGTERM
        assert terminal.settings == terminal.before
    with Terminal(words, target.environ, target.work) as terminal:
        terminal.wait_for("in it")
        terminal.hang_up()
        assert terminal.process.wait() == 128 + signal.SIGHUP


def test_who_wants_into_a_run_that_does_not_run_is_told_why(target: Shell) -> None:
    assert "doesn't run yet" in _waiting_refusal(target)
    target.ok("run", "-n", "short", "--", "true")
    said = target.refused(1, "exec", "short", "--", "true")
    assert "short has ended (succeeded)" in said
    assert "gpuyard logs short" in said
    assert "no rank 3" in target.refused(2, "exec", "--rank", "3", "short", "--", "true")
    assert "gpuyard exec NAME -- COMMAND" in target.refused(2, "exec", "short")


def _waiting_refusal(target: Shell) -> str:
    target.ok("run", "-d", "-n", "waits", *NOWHERE, "--", "true")
    return target.refused(1, "exec", "waits", "--", "true")


def _until_size(rows_and_columns: str) -> str:
    return f"until [ \"$(stty size)\" = '{rows_and_columns}' ]; do sleep 0.1; done"
