from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.names import is_label
from gpuyard.workloads.names import MAX_LENGTH, generate_name, name_problem, service_name


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        ("train.py", "train"),
        ("src/My_Train.V2.py", "my-train-v2"),
        ("./run.sh", "run"),
        ("torchrun", "torchrun"),
        ("模型.py", "run"),
        ("...", "run"),
        ("x" * 200 + ".py", "x" * 46),
    ],
)
def test_a_name_comes_from_the_script(subject: str, base: str) -> None:
    name = generate_name(subject, random.Random(1))
    assert name[:-6] == base
    assert name[-6] == "-"


def test_two_runs_of_one_script_differ() -> None:
    rng = random.Random(1)
    assert generate_name("train.py", rng) != generate_name("train.py", rng)


@pytest.mark.parametrize("name", ["a", "0", "train-2", "a" * MAX_LENGTH])
def test_good_names(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("", ""), ("Train", "'train'"), ("a_b", "'a-b'"), ("-a", "'a'"), ("a.b", "'a-b'"), ("a\n", "'a'"),
     ("a" * 53, "'" + "a" * 52 + "'"), ("é", "")],
)  # fmt: skip
def test_bad_names_get_the_rule_and_one_that_would_do(name: str, suggestion: str) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert "lower case letters" in problem
    assert suggestion in problem


@given(st.text(), st.integers())
def test_generated_names_are_valid_and_fit_a_pod(subject: str, seed: int) -> None:
    name = generate_name(subject, random.Random(seed))
    assert name_problem(name) is None
    assert is_label(f"{name}-123-abcde")


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("serve.py", "serve"),
        ("/srv/My Model.sh", "my-model"),
        ("...", "service"),
        ("x" * 80 + ".py", "x" * 52),
    ],
)
def test_a_service_is_called_as_its_script(subject: str, name: str) -> None:
    assert service_name(subject) == name
