"""`attach` to a run of `gpuyard run`."""

from __future__ import annotations

import signal

from .shell import Shell


def test_attached_to_a_run_one_sees_what_it_prints_and_its_exit_code(target: Shell) -> None:
    ticks = f"until [ -e {target.gate} ]; do echo tick; sleep 0.1; done; exit 7"
    target.background("train", "--", "sh", "-c", ticks)
    attached = target.start("attach", "tr")
    attached.wait_for("tick")
    left = target.start("attach", "train")
    left.wait_for("tick")
    left.process.send_signal(signal.SIGINT)
    result = left.finish()
    assert (result.code, "Attach again: gpuyard attach train" in result.err) == (0, True)
    target.open_gate("train")
    result = attached.finish()
    assert result.code == 7
    assert "it takes no input" in result.err


def test_a_run_that_saves_when_it_is_stopped_has_no_success_to_give(target: Shell) -> None:
    target.background("train", "--", "sh", "-c", "trap 'exit 0' TERM; while :; do echo tick; sleep 0.1; done")
    attached, inside = target.start("attach", "train"), target.start("exec", "train", "--", "sleep", "600")
    attached.wait_for("tick")
    target.ok("stop", "train")
    result = attached.finish()
    assert (result.code, "train stopped by you" in result.err) == (125, True)
    result = inside.finish()
    assert (result.code > 128, "train stopped by you" in result.err) == (True, True)
