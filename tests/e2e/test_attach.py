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
