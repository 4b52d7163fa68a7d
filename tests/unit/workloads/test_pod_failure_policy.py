from __future__ import annotations

from typing import Any

import pytest

from gpuyard.workloads.pod_failure_policy import (
    MAX_REFUSALS,
    MatchedRule,
    PodFailureAction,
    counts,
    is_over,
    matched_rule,
    retry_fields,
)

IGNORE, FAIL_JOB = PodFailureAction.IGNORE, PodFailureAction.FAIL_JOB


def pod(*conditions: str, code: int | None = None, init: int | None = None) -> dict[str, Any]:
    """Failed; a condition is written `Type=Status`."""
    status: dict[str, Any] = {
        "phase": "Failed",
        "conditions": [dict(zip(("type", "status"), text.split("="), strict=True)) for text in conditions],
    }
    for field, name, ended in (("containerStatuses", "main", code), ("initContainerStatuses", "init", init)):
        if ended is not None:
            status[field] = [{"name": name, "state": {"terminated": {"exitCode": ended}}}]
    return {"metadata": {"namespace": "team", "name": "p"}, "status": status}


REFUSED = pod()
DRAINED = pod("Initialized=True", "DisruptionTarget=True", code=143)
FAILED = pod("Initialized=True", code=3)
SAVED_AT_ITS_DEADLINE = pod("Initialized=True", code=0)
INIT_FAILED = pod("Initialized=False", init=2)


def job(retries: int) -> dict[str, Any]:
    return {"spec": retry_fields(retries)}


@pytest.mark.parametrize("failed", [FAILED, SAVED_AT_ITS_DEADLINE, INIT_FAILED])
def test_without_retries_what_ran_and_failed_ends_the_run(failed: dict[str, Any]) -> None:
    assert is_over(job(0), [failed])
    assert not is_over(job(1), [failed])
    assert is_over(job(1), [failed, failed])


@pytest.mark.parametrize("retries", [0, 1])
def test_what_is_disrupted_uses_up_nothing(retries: int) -> None:
    assert not is_over(job(retries), [DRAINED] * 100)
    assert not counts(job(retries)["spec"]["podFailurePolicy"], DRAINED)
    assert is_over(job(0), [DRAINED, FAILED])


def test_without_retries_a_refusal_is_tried_again_some_times() -> None:
    assert not is_over(job(0), [REFUSED] * MAX_REFUSALS)
    assert is_over(job(0), [REFUSED] * (MAX_REFUSALS + 1))


def test_with_retries_a_refusal_is_one_of_them() -> None:
    assert not is_over(job(2), [REFUSED, FAILED])
    assert is_over(job(2), [REFUSED, FAILED, FAILED])


def test_what_a_queue_ends_by_suspending_fails_no_job() -> None:
    fields = retry_fields(0, is_queued=True)
    assert matched_rule(fields["podFailurePolicy"], pod("Initialized=True", code=143)) is None
    assert fields["backoffLimit"] == 0
    assert matched_rule(fields["podFailurePolicy"], DRAINED)


def test_the_job_s_condition_names_the_exit_code() -> None:
    policy = job(0)["spec"]["podFailurePolicy"]
    text = "Container main for pod team/p failed with exit code 3 matching FailJob rule at index 1"
    assert matched_rule(policy, FAILED) == MatchedRule(FAIL_JOB, text)
    text = "Pod team/p has condition Initialized matching FailJob rule at index 2"
    assert matched_rule(policy, SAVED_AT_ITS_DEADLINE) == MatchedRule(FAIL_JOB, text)


def on_codes(operator: str, *values: int, **fields: Any) -> dict[str, Any]:
    rule = {"action": "Ignore", "onExitCodes": {"operator": operator, "values": list(values), **fields}}
    return {"rules": [rule]}


@pytest.mark.parametrize(
    ("policy", "failed", "matches"),
    [
        (None, FAILED, False),
        ({"rules": []}, FAILED, False),
        (on_codes("In", 3, 4), FAILED, True),
        (on_codes("In", 4), FAILED, False),
        (on_codes("NotIn", 4), FAILED, True),
        (on_codes("NotIn", 3), FAILED, False),
        (on_codes("NotIn", 3), SAVED_AT_ITS_DEADLINE, False),
        (on_codes("NotIn", 3), REFUSED, False),
        (on_codes("In", 2), INIT_FAILED, True),
        (on_codes("In", 3, containerName="main"), FAILED, True),
        (on_codes("In", 3, containerName="init"), FAILED, False),
        ({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}, DRAINED, True),
    ],
)
def test_what_a_rule_matches(policy: dict[str, Any] | None, failed: dict[str, Any], matches: bool) -> None:
    rule = matched_rule(policy, failed)
    assert (rule is not None) == matches
    assert counts(policy, failed) != matches


def test_the_first_rule_that_matches_counts() -> None:
    policy = {"rules": [*on_codes("In", 3)["rules"], {**on_codes("In", 3)["rules"][0], "action": "FailJob"}]}
    rule = matched_rule(policy, FAILED)
    assert rule is not None and rule.action is IGNORE
