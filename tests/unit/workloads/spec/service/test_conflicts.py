"""Keys of runs that a service has no use for."""

from __future__ import annotations

import pytest

from gpuyard.errors import SpecError
from gpuyard.workloads.spec.run_spec import load_spec


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as raised:
        load_spec(f"run: 'true'\nservice: {{port: 8000}}\n{text}", "spec", (), {})
    return [f"{problem.path}: {problem.message}" for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nodes: 2", "nodes: a service's replicas are service.replicas (--replicas)"),
        ("sweep: {a: 1}", "sweep: a service has no tasks"),
        ("sweep_file: x.csv", "sweep_file: a service has no tasks"),
        ("retries: 3", "retries: a service's replicas are started again"),
        ("timeout: 1h", "timeout: a service goes on until you stop it"),
        ("grace: 1m", "grace: how long a replica may take to finish what it has is service.drain"),
        ("name: 3d", "name: '3d' can't name a service, whose name begins with a letter"),
        ("env: {PORT: 80}", "env.PORT: is set for a service's program"),
    ],
)
def test_it_is_refused_with_what_a_service_has_for_it(text: str, said: str) -> None:
    [problem] = problems(text)
    assert said in problem


def test_a_signal_idle_and_at_once_are_refused_beside_what_is_wrong_with_them_anyway() -> None:
    text = "resources: {gpus: 1}\nidle: 5m\ntimeout: 1h\nsignal: USR1@60\nstart_within: 5m\nat_once: 3"
    assert {problem.partition(":")[0] for problem in problems(text)} == {
        "idle", "timeout", "signal", "start_within", "at_once"
    }  # fmt: skip


def test_what_every_run_has_is_no_conflict() -> None:
    text = "run: a\nnodes: 1\nretries: 0\nenv: {PORT: 8000}\nservice: {port: 8000}"
    assert load_spec(text, "spec", (), {}).service is not None
