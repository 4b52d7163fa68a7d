"""`wait` returns once runs have ended, with the exit code of the first that did not succeed."""

from __future__ import annotations

from .shell import Shell


def test_it_waits_for_all_and_has_the_code_of_the_first_failure(target: Shell) -> None:
    target.background("slow", "--", "sh", "-c", f"{target.waiting}; exit 5")
    target.ok("run", "-d", "-n", "good", "--", "true")
    target.call("run", "-n", "bad", "--", "sh", "-c", "exit 3")
    waiting = target.start("wait", "slow", "good", "bad")
    waiting.wait_for("bad failed: exited with 3\n")
    waiting.wait_for("good succeeded\n")
    target.open_gate("slow")
    result = waiting.finish()
    assert result.code == 3
    assert all(line.startswith("Waiting for slow: running") for line in result.err.splitlines()[-1:])
    assert sorted(result.out.splitlines()) == [
        "bad failed: exited with 3",
        "good succeeded",
        "slow failed: exited with 5",
    ]
    assert target.ok("wait", "good") == "good succeeded\n"


def test_it_waits_no_longer_than_it_is_told(target: Shell) -> None:
    target.background("long", "--", "sleep", "600")
    result = target.call("wait", "--timeout", "1s", "long")
    assert (result.code, result.out, result.err.splitlines()[-1]) == (124, "", "Still not over: long")
    assert "no run 'other'" in target.refused(2, "wait", "long", "other")
    assert "is no time" in target.refused(2, "wait", "--timeout", "soon", "long")


def test_it_says_what_it_waits_for(target: Shell) -> None:
    target.background("slow", "--", "sh", "-c", target.waiting)
    waiting = target.start("wait", "slow")
    waiting.wait_for("Waiting for slow: running\n")
    target.open_gate("slow")
    assert waiting.finish().out == "slow succeeded\n"
