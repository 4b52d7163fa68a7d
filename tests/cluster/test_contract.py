"""The real Kubernetes still does what was recorded of it: the cases of tests/contract."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.harness.cluster import Cluster
from tests.contract import recordings, targets
from tests.contract.registry import Case, asked_for, load_cases, run_cases

CASES = load_cases()


@pytest.fixture(scope="module")
def observed(request: pytest.FixtureRequest, cluster: Cluster) -> dict[str, Any]:
    """The cases that were asked for run at the same time, since most of them wait."""
    wanted = [CASES[name] for name in asked_for(request)]
    with targets.kubernetes(cluster) as target:
        return run_cases(wanted, target)


@pytest.fixture(scope="module")
def truth(cluster: Cluster) -> dict[str, Any]:
    """What was recorded of the cluster's version."""
    older = recordings.load(recordings.of_kubernetes(cluster.minor))
    return {**recordings.load(recordings.KUBERNETES), **older}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_case(case: Case, observed: dict[str, Any], truth: dict[str, Any]) -> None:
    found = observed[case.id]
    if isinstance(found, Exception):
        raise found
    assert found == truth[case.id]
