from __future__ import annotations

import pytest

from gpuyard.errors import SpecError
from gpuyard.workloads.spec.run_spec import load_spec
from gpuyard.workloads.spec.shell_variables import expand
from tests.unit.workloads.flags import flags_of

SHELL = {"USER": "ada", "EMPTY": "", "ODD": "${USER} $$"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("/data/${USER}/x", "/data/ada/x"),
        ("${USER}${EMPTY}${USER}", "adaada"),
        ("$USER $(USER) $$ $$$ 5$ a$b", "$USER $(USER) $$ $$$ 5$ a$b"),
        ("$${USER}", "${USER}"),
        ("$$${USER}", "$${USER}"),
        # What is put in isn't looked at again.
        ("${ODD}", "${USER} $$"),
    ],
)
def test_references(written: str, value: str) -> None:
    assert expand(written, SHELL) == (value, [])


def load(written: str, **flags: tuple[str, ...]) -> dict[str, str]:
    return dict(load_spec(f"run: x\nenv:\n{written}", "gpuyard.yaml", flags_of(**flags), SHELL).env)


def test_only_the_file_s_own_values_are_expanded() -> None:
    assert load("  A: ${USER}\n  B: x\n  ODD:\n", env=("B=${USER}",)) == {
        "A": "ada", "B": "${USER}", "ODD": SHELL["ODD"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("${NOT_SET}", "NOT_SET isn't set in your shell; export it, or write $${NOT_SET}"),
        ("${USER:-x}", "`${` begins a variable of your shell"),
        ("${", "`${` begins a variable of your shell"),
    ],
)
def test_mistakes_name_their_line(value: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(f"  A: ok\n  B: '{value}'\n")
    [problem] = caught.value.problems
    assert (problem.path, problem.line) == ("env.B", 4)
    assert said in problem.message
