"""`gpuyard logs`: what a run printed, now or as it comes, until `rm`."""

from __future__ import annotations

import os
import re

from tests.waiting import until

from .conftest import Yard
from .shell import NOWHERE, Result, Shell

THREE_TRIES = 'n=$(cat tries 2>/dev/null || echo 0); echo $((n+1)) > tries; echo "$n a"; echo "$n b"; exit 1'


def test_all_attempts_one_after_the_other(yard: Yard) -> None:
    followed = yard.call("run", "-n", "tries", "--retries", "2", "--", "sh", "-c", THREE_TRIES)
    assert (followed.code, followed.out) == (1, "0 a\n0 b\n1 a\n1 b\n2 a\n2 b\n")
    assert yard.ok("logs", "tries") == followed.out
    assert yard.ok("logs", "--tail", "1", "tries") == "2 b\n"
    again = yard.call("logs", "-f", "tries")
    assert (again.code, again.out) == (1, followed.out)


def test_following_waits_for_more(target: Shell) -> None:
    target.background("slow", "--", "sh", "-c", f"seq 1 5; {target.waiting}; echo 6; exit 4")
    target.wait_for_line("slow", "5")
    followed = target.start("logs", "-f", "--tail", "2", "slow")
    followed.wait_for("5\n")
    target.open_gate("slow")
    result = followed.finish()
    assert (result.code, result.out) == (4, "4\n5\n6\n")
    assert target.ok("logs", "slow") == "1\n2\n3\n4\n5\n6\n"


def test_nothing_is_lost_at_full_speed(target: Shell) -> None:
    lines = target.many
    # The shell's own echo: one write a line, as fast as it can.
    script = f'i=0; while [ "$i" -lt {lines} ]; do echo "$i"; i=$((i+1)); done'
    expected = "".join(f"{number}\n" for number in range(lines))
    for attempt in range(3):
        name = f"fast-{attempt}"
        following = target.start("run", "-n", name, "--", "sh", "-c", script)
        following.wait_for("0\n")
        beside = target.start("logs", "-f", name)
        for how, said in (
            ("run", following.finish().out),
            ("logs -f", beside.finish().out),
            ("logs", target.ok("logs", name)),
        ):
            # Not `==` on the texts themselves: pytest would take minutes to show how they differ.
            missing = len(expected) - len(said)
            assert (said == expected) is True, f"round {attempt}: {how} lacks {missing} bytes"


def test_tail(target: Shell) -> None:
    target.ok("run", "-n", "three", "--", "seq", "3")
    for tail, said in (("0", ""), ("1", "3\n"), ("3", "1\n2\n3\n"), ("9", "1\n2\n3\n")):
        assert target.ok("logs", "--tail", tail, "three") == said


def test_they_stay_after_stop(target: Shell) -> None:
    target.background("halted", "--", "sh", "-c", "echo before; sleep 600")
    target.wait_for_line("halted", "before")
    target.ok("stop", "halted")
    assert target.ok("logs", "halted") == "before\n"


def test_a_run_without_output_yet_says_so(target: Shell) -> None:
    target.ok("run", "-d", "-n", "waiter", *NOWHERE, "--", "echo", "hi")
    result = target.call("logs", "waiter")
    assert (result.code, result.out) == (0, "")
    assert "waiter: pending" in result.err


def test_an_unknown_name_gets_the_nearest_one(target: Shell) -> None:
    target.ok("run", "-n", "trainer", "--", "true")
    for command in ("logs", "show", "explain", "stop", "rm"):
        said = target.refused(2, command, "trianer")
        assert "'trianer'" in said and "did you mean trainer?" in said


def test_our_own_line_begins_a_line(target: Shell) -> None:
    together = target.bash("$GPUYARD 2>&1", "run", "-n", "torn", "--", "printf", "no newline")
    assert together.stdout.endswith("no newline\ntorn succeeded\n")
    # What goes to a file is what the process wrote.
    assert target.ok("logs", "torn") == "no newline"


def test_several_attempts_are_told_apart_from_the_first_on(yard: Yard) -> None:
    yard.call("run", "-n", "tries", "--retries", "1", "--", "sh", "-c", THREE_TRIES)
    said = yard.call("logs", "-f", "tries").err
    assert said.index("── attempt 1 ──") < said.index("── attempt 2 ──")


def test_output_that_is_no_longer_kept_leaves_a_gap_that_says_so(yard: Yard) -> None:
    """In `logs` and `logs -f`, of a run that goes on; as many bytes as are missing."""
    written = 80_000_000
    yard.background("long", "--", "sh", "-c", f"yes | head -c {written}; {yard.waiting}")
    gap = re.compile(r"^\((\d+) bytes are missing here: .*\)\n", re.MULTILINE)

    def bounded() -> bool:
        said = yard.call("logs", "long")
        found = gap.findall(said.err)
        return len(found) == 1 and int(found[0]) + len(said.out) == written

    until(bounded, "the front of the log is dropped, and the gap is said to be there")
    followed = yard.start("logs", "-f", "long")
    followed.wait_for("bytes are missing here")
    yard.open_gate("long")
    result = followed.finish()
    # More of it may be dropped at the run's end than there was to drop before.
    missing = sum(map(int, gap.findall(result.err)))
    assert (result.code, missing + len(result.out)) == (0, written)
    # Nothing is missing before the last lines.
    assert yard.call("logs", "--tail", "1", "long") == Result(0, "y\n", "")


def test_lines_have_times_for_gpuyard_and_kubectl(yard: Yard) -> None:
    yard.background("timed", "--", "sh", "-c", f"echo one; {yard.waiting}; echo two")
    yard.wait_for_line("timed", "one")
    [log] = yard.paths.pods_dir.rglob("log")
    until(log.with_name("log-times").exists, "the yard has looked at the log")
    yard.open_gate("timed")
    followed = yard.ok("logs", "-f", "--timestamps", "timed")
    found = re.findall(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (one|two)$", followed, re.MULTILINE)
    assert [line for _, line in found] == ["one", "two"] and len(followed.splitlines()) == 2
    (first, _), (second, _) = found
    assert first < second
    assert yard.ok("logs", "--timestamps", "timed") == followed
    assert yard.kubectl("logs", "job/timed", "--timestamps") == followed
    for since, said in (("2026-01-01", "one\ntwo\n"), ("2999-01-01", "")):
        assert yard.kubectl("logs", "job/timed", f"--since-time={since}T00:00:00Z") == said


def test_only_what_is_newer(yard: Yard) -> None:
    yard.ok("run", "-n", "new", "--", "echo", "hi")
    for options in ((), ("-f",), ("--tail", "1")):
        assert yard.ok("logs", "--since", "10m", *options, "new") == "hi\n"
    [log] = yard.paths.pods_dir.rglob("log")
    hours_ago = log.stat().st_mtime - 7200
    os.utime(log, (hours_ago, hours_ago))
    log.with_name("log-times").unlink()
    for options in ((), ("-f",)):
        assert yard.ok("logs", "--since", "1h", *options, "new") == ""
    assert yard.ok("logs", "--since", "3h", "new") == "hi\n"


def test_lines_of_several_ranks_come_in_the_order_of_time(yard: Yard) -> None:
    """Rank 1 prints between two lines of rank 0."""
    script = (
        "case $RANK in 0) echo a; touch a; until [ -e b ]; do sleep 0.1; done; echo c;;"
        " *) until [ -e a ]; do sleep 0.1; done; sleep 0.5; echo b; sleep 0.5; touch b;; esac"
    )
    yard.ok("run", "-n", "turns", "--nodes", "2", "--", "sh", "-c", script)
    for options in ((), ("-f",)):
        assert yard.ok("logs", *options, "turns") == "[0] a\n[1] b\n[0] c\n"
    assert yard.ok("logs", "--rank", "0", "turns") == "a\nc\n"
    timed = yard.ok("logs", "--timestamps", "turns").splitlines()
    assert [re.sub(r"\] \S+Z ", "] ", line) for line in timed] == ["[0] a", "[1] b", "[0] c"]


def test_output_that_nobody_takes_is_our_failure_once_the_run_is_there(yard: Yard) -> None:
    full = yard.bash("$GPUYARD > /dev/full", "run", "-n", "told", "--", "echo", "hi")
    assert full.returncode == 125
    assert "No space left on device" in full.stderr and "gpuyard logs told" in full.stderr
    assert "Exception" not in full.stderr
    again = yard.bash("$GPUYARD > /dev/full", "logs", "told")
    assert again.returncode == 1 and "Exception" not in again.stderr
    assert yard.ok("logs", "told") == "hi\n"


def test_a_shell_without_a_command_is_told_that_nobody_can_type(yard: Yard) -> None:
    said = yard.call("run", "-n", "typed", "--", "bash")
    assert said.code == 0 and "bash reads commands from standard input, which isn't passed on" in said.err
    assert "standard input" not in yard.call("run", "--", "bash", "-c", "true").err
