from __future__ import annotations

from datetime import timedelta

import pytest

from gpuyard import errors
from gpuyard.workloads.spec.early_signal import EarlySignal, parse_early_signal
from gpuyard.workloads.spec.run_spec import load_spec


@pytest.mark.parametrize(
    ("written", "name", "seconds"),
    [("USR1@120", "SIGUSR1", 120), ("SIGHUP", "SIGHUP", 60), (" term@5m ", "SIGTERM", 300)],
)
def test_as_slurm_writes_it(written: str, name: str, seconds: int) -> None:
    assert parse_early_signal(written) == EarlySignal(name, timedelta(seconds=seconds))


@pytest.mark.parametrize("written", ["", "@60", "KILL@60", "10@60", "B:USR1@60", "USR1@", "USR1@0", "USR1@²"])
def test_what_is_none(written: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        parse_early_signal(written)


@pytest.mark.parametrize(
    ("timeout", "says"),
    [("", "add `timeout` (--timeout)"), ("timeout: 2m", "before the run begins, whose timeout is 2m")],
)
def test_it_needs_a_timeout_that_is_longer(timeout: str, says: str) -> None:
    with pytest.raises(errors.SpecError) as raised:
        load_spec(f"run: x\nsignal: USR1@120\n{timeout}", "spec.yaml", (), {})
    [problem] = raised.value.problems
    assert (problem.path, problem.line) == ("signal", 2)
    assert says in problem.message
