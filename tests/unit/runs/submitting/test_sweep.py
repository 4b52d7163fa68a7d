from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.submitting.sweep import unused_names, with_whole_sweep
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.sweeps.values import Sweep, ValueTable

SEED = Sweep((ValueTable(("seed",), (("1",), ("2",))),))


def test_rows_of_the_file_are_combined_with_the_values(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbflr,n\r\n0.1,a\r\n0.2,b\r\n")
    spec = RunSpec(run=("python", "a.py", "--lr={lr}"), sweep=SEED, sweep_file="t.csv")
    whole = with_whole_sweep(spec, tmp_path)
    assert whole.sweep is not None
    assert [whole.sweep.task(n) for n in (1, 2)] == [
        {"lr": "0.1", "n": "a", "seed": "2"},
        {"lr": "0.2", "n": "b", "seed": "1"},
    ]
    assert unused_names(whole) == ["n", "seed"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "can't read"), (b"\xff", "isn't text in UTF-8"), (b"a\n", "t.csv has no tasks"),
     (b"seed\n1\n", "seed is swept twice")],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(errors.UsageError, match=message):
        with_whole_sweep(RunSpec(run="a", sweep=SEED, sweep_file="t.csv"), tmp_path)


def test_an_unknown_name_in_the_command() -> None:
    with pytest.raises(errors.UsageError, match=r"the command has \{sed\}") as raised:
        with_whole_sweep(RunSpec(run=("a", "{sed}"), sweep=SEED), Path())
    assert raised.value.remedy == "did you mean {seed}? there are: seed; {{sed}} keeps the braces"
    with_whole_sweep(RunSpec(run=("a", "{{sed}}"), sweep=SEED), Path())


def test_a_shell_gets_variables_alone() -> None:
    with pytest.raises(errors.UsageError, match=r"\{seed\} in it would be read as its syntax") as raised:
        with_whole_sweep(RunSpec(run="a {seed} | b", sweep=SEED), Path())
    assert 'write "$seed" there' in raised.value.remedy
    with_whole_sweep(RunSpec(run='for x in {a,b}; do a "$seed" ${x}; done', sweep=SEED), Path())


def test_a_value_that_the_environment_has_too() -> None:
    with pytest.raises(errors.UsageError, match="seed is swept, and set in the environment, too"):
        with_whole_sweep(RunSpec(run="a", sweep=SEED, env={"seed": "3"}), Path())
