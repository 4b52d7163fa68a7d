from __future__ import annotations

import pytest

from gpuyard.kube.wellknown import ENV_SWEEP
from gpuyard.workloads.sweeps.sweep import (
    SweepObjects,
    of_config_map,
    placeholders,
    values_text,
)
from gpuyard.workloads.sweeps.values import MAX_TABLES_BYTES, Sweep, ValueTable

LR = ValueTable(("lr",), (("0.1",), ("0.2",)))
SWEEP = Sweep((LR, ValueTable(("a", "b"), (("1", "x"), ("2", "y"), ("3", "z")))))
OBJECTS = SweepObjects("a", "ml", SWEEP)


def test_the_last_table_goes_on_first() -> None:
    assert (SWEEP.size, SWEEP.names) == (6, ("lr", "a", "b"))
    assert SWEEP.task(1) == {"lr": "0.1", "a": "2", "b": "y"}
    assert SWEEP.task(3) == {"lr": "0.2", "a": "1", "b": "x"}


def test_readers_find_the_sweep_again() -> None:
    assert of_config_map(OBJECTS.config_map) == SWEEP


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "1", '[{"names":["a"],"rows":[]}]', '[{"names":["a"],"rows":[["1","2"]]}]',
     '[{"names":["a"]}]'],
)  # fmt: skip
def test_what_is_no_sweep_is_none(text: str) -> None:
    assert of_config_map({"data": {"tasks": text}}) is None


def test_as_many_run_at_once_as_are_asked_for() -> None:
    assert OBJECTS.job_fields(None) == {"completions": 6, "parallelism": 6, "completionMode": "Indexed"}
    assert OBJECTS.job_fields(2)["parallelism"] == 2
    many = Sweep((ValueTable(("n",), tuple((str(n),) for n in range(101))),))
    assert SweepObjects("a", "ml", many).job_fields(None)["parallelism"] == 100


def test_linux_takes_the_longest_variable() -> None:
    """MAX_ARG_STRLEN of Linux is 32 pages."""
    import os
    import subprocess

    longest = {ENV_SWEEP: "x" * MAX_TABLES_BYTES}
    assert subprocess.run(["/bin/true"], env={**os.environ, **longest}, check=False).returncode == 0
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true"], env={ENV_SWEEP: "x" * (MAX_TABLES_BYTES + 1)}, check=False)


def test_pods_have_the_values_by_reference() -> None:
    [variable] = OBJECTS.environment
    name = OBJECTS.config_map["metadata"]["name"]
    assert variable["valueFrom"] == {"configMapKeyRef": {"name": name, "key": "tasks"}}


def test_names_in_two_pairs_of_braces_are_words() -> None:
    assert [*placeholders(["{lr}{{seed}}", "a{n}b", "{}", "{1}"])] == ["lr", "n"]


def test_values_are_shown_on_one_line() -> None:
    assert values_text({"lr": "1e-3", "name": "a b\n", "none": ""}) == 'lr=1e-3 name="a b\\n" none=""'
