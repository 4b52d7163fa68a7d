"""The yard does what Kubernetes was recorded to do, but for the differences that have a reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract import recordings, targets
from tests.contract.differences import DIFFERENT, UNSERVED
from tests.contract.registry import Case, asked_for, load_cases, run_cases

CASES = load_cases()
TRUTH = recordings.load(recordings.KUBERNETES)
EXPECTED = recordings.expected_of_yard()


@pytest.fixture(scope="module")
def observed(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The cases that were asked for run at the same time, since most of them wait."""
    wanted = [CASES[name] for name in asked_for(request)]
    with targets.yard() as target:
        return run_cases(wanted, target)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_case(case: Case, observed: dict[str, Any]) -> None:
    found = observed[case.id]
    if isinstance(found, Exception):
        raise found
    assert found == EXPECTED[case.id]


def test_every_case_was_recorded_and_none_besides() -> None:
    assert TRUTH.keys() == CASES.keys()


def test_the_differences_are_real_and_have_a_reason() -> None:
    explained = {**DIFFERENT, **UNSERVED}
    assert len(explained) == len(DIFFERENT) + len(UNSERVED)
    assert recordings.load(recordings.YARD).keys() == explained.keys()
    assert all(explained.values())
    assert [name for name in explained if EXPECTED[name] == TRUTH[name]] == []


def test_the_page_is_what_is_made_of_the_recordings() -> None:
    assert recordings.PAGE.read_text() == recordings.page(), "`make conformance` writes it again"
