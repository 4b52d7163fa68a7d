import copy
from typing import Any

import pytest

from gpuyard.local.objects.kinds.job import JOB

from .conftest import create, update

Manifest = dict[str, Any]


def test_defaults_and_the_generated_selector(job: Manifest) -> None:
    stored, found = create(JOB, job | {"status": {"succeeded": 3}})
    assert found == []
    spec = stored["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (1, 1, 6)
    assert (spec["completionMode"], spec["suspend"]) == ("NonIndexed", False)
    assert spec["podReplacementPolicy"] == "TerminatingOrFailed"
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "uid-1"}}
    assert spec["template"]["metadata"]["labels"] == {
        "app": "a",
        "batch.kubernetes.io/controller-uid": "uid-1",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "uid-1",
        "job-name": "j",
    }
    assert stored["metadata"]["labels"] == spec["template"]["metadata"]["labels"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30
    assert stored["status"] == {}


def test_parallelism_without_completions_is_a_work_queue(job: Manifest) -> None:
    job["spec"]["parallelism"] = 3
    assert "completions" not in create(JOB, job)[0]["spec"]


RULES = "spec.podFailurePolicy.rules"
INDEXED = {"completionMode": "Indexed", "completions": 2}


def failing(*rules: Manifest) -> Manifest:
    return {"podFailurePolicy": {"rules": list(rules)}}


def on_codes(values: list[int], **fields: Any) -> Manifest:
    return {"action": "Count", "onExitCodes": {"operator": "In", "values": values, **fields}}


def test_a_failure_policy_keeps_to_pods_that_have_failed(job: Manifest) -> None:
    job["spec"] |= failing({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]})
    stored, found = create(JOB, job)
    assert found == []
    assert stored["spec"]["podReplacementPolicy"] == "Failed"
    [rule] = stored["spec"]["podFailurePolicy"]["rules"]
    assert rule["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    job["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    _, found = create(JOB, job)
    assert [error.path for error in found] == ["spec.template.spec.restartPolicy"]


@pytest.mark.parametrize(
    ("spec", "where", "message"),
    [
        ({"parallelism": -1}, "spec.parallelism", "Invalid value: -1: must be greater than or equal to 0"),
        ({"backoffLimit": -1}, "spec.backoffLimit", "must be greater than or equal to 0"),
        ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished", "must be greater than or equal"),
        ({"completionMode": "Random"}, "spec.completionMode",
         'Unsupported value: "Random": supported values: "NonIndexed", "Indexed"'),
        ({"completionMode": "Indexed", "parallelism": 2}, "spec.completions",
         "Required value: when completion mode is Indexed"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "spec.selector", "`selector` not auto-generated"),
        ({"manualSelector": True}, "spec.selector", "Required value"),
        ({"manualSelector": True, "selector": {"matchLabels": {"a": "b"}}}, "spec.template.metadata.labels",
         "`selector` does not match template `labels`"),
        ({"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "TerminatingOrFailed"},
         "spec.podReplacementPolicy",
         'Unsupported value: "TerminatingOrFailed": supported values: "Failed"'),
        (failing({"action": "Stop"}), f"{RULES}[0].action",
         'Unsupported value: "Stop": supported values: "Count", "FailIndex", "FailJob", "Ignore"'),
        (failing({"action": "FailIndex"}), f"{RULES}[0].action",
         'Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set'),
        (failing({"action": "Count"}), f"{RULES}[0]",
         "Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
        (failing(*[{"action": "Count"}] * 21), RULES, "Too many: 21: must have at most 20 items"),
        (failing(on_codes([3, 2])), f"{RULES}[0].onExitCodes.values", "must be ordered"),
        (failing(on_codes([2, 2])), f"{RULES}[0].onExitCodes.values[1]", "Duplicate value: 2"),
        (failing(on_codes([0])), f"{RULES}[0].onExitCodes.values[0]", "must not be 0 for the In operator"),
        (failing(on_codes([])), f"{RULES}[0].onExitCodes.values", "at least one value is required"),
        (failing(on_codes([1], operator="Near")), f"{RULES}[0].onExitCodes.operator",
         'Unsupported value: "Near": supported values: "In", "NotIn"'),
        (failing(on_codes([1], containerName="other")), f"{RULES}[0].onExitCodes.containerName",
         "must be one of the container or initContainer names in the pod template"),
        (failing({**on_codes([1]), "onPodConditions": [{"type": "a"}]}), f"{RULES}[0]",
         "specifying both OnExitCodes and OnPodConditions is not supported"),
        (failing({"action": "Ignore", "onPodConditions": [{"type": "a", "status": "Maybe"}]}),
         f"{RULES}[0].onPodConditions[0].status", 'supported values: "False", "True", "Unknown"'),
        (failing({"action": "Ignore", "onPodConditions": [{"type": "a b"}]}),
         f"{RULES}[0].onPodConditions[0].type", "name part must consist of"),
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex",
         "Invalid value: 1: requires indexed completion mode"),
        ({"maxFailedIndexes": 1}, "spec.backoffLimitPerIndex", "when maxFailedIndexes is specified"),
        ({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 0, "maxFailedIndexes": 3},
         "spec.maxFailedIndexes", "must be less than or equal to completions"),
        ({"successPolicy": {"rules": [{}]}}, "spec.successPolicy", "requires indexed completion mode"),
        (INDEXED | {"successPolicy": {"rules": []}}, "spec.successPolicy.rules", "at least one rule"),
        (INDEXED | {"successPolicy": {"rules": [{}]}}, "spec.successPolicy.rules[0]", "at least one of"),
        (INDEXED | {"successPolicy": {"rules": [{"succeededCount": 3}]}},
         "spec.successPolicy.rules[0].succeededCount", "less than or equal to 2"),
        (INDEXED | {"successPolicy": {"rules": [{"succeededIndexes": "0,2"}]}},
         "spec.successPolicy.rules[0].succeededIndexes", "must be indexes below 2"),
    ],
)  # fmt: skip
def test_rules(job: Manifest, spec: Manifest, where: str, message: str) -> None:
    job["spec"] |= spec
    _, found = create(JOB, job)
    assert any(e.path == where and message in e.message for e in found), found


@pytest.mark.parametrize("policy", ["Always", None])
def test_pods_of_a_job_end(job: Manifest, policy: str | None) -> None:
    job["spec"]["template"]["spec"]["restartPolicy"] = policy
    _, found = create(JOB, job)
    assert [(e.path, e.message) for e in found] == [
        (
            "spec.template.spec.restartPolicy",
            'Required value: valid values: "OnFailure", "Never"',
        )
    ]


def test_the_template_follows_the_rules_of_pods(job: Manifest) -> None:
    spec = job["spec"]["template"]["spec"]
    spec["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1500m"}}
    spec["runtimeClassName"] = "nvidia"
    job["spec"]["template"]["metadata"]["labels"]["bad key"] = "x"
    paths = [e.path for e in create(JOB, job)[1]]
    assert "spec.template.spec.containers[0].resources.limits[nvidia.com/gpu]" in paths
    assert "spec.template.spec.runtimeClassName" in paths
    assert "spec.template.labels" in paths


def test_the_name_must_fit_into_a_label(job: Manifest) -> None:
    job["metadata"]["name"] = "a" * 64
    assert "must be no more than 63 bytes" in str(create(JOB, job)[1])


@pytest.mark.parametrize(
    "change",
    [
        {"backoffLimit": 0},
        {"parallelism": 3},
        {"suspend": True},
        {"activeDeadlineSeconds": 5},
        {"ttlSecondsAfterFinished": 5},
    ],
)
def test_what_an_update_may_change(job: Manifest, change: Manifest) -> None:
    old, _ = create(JOB, job)
    new = copy.deepcopy(old)
    new["spec"] |= change
    assert update(JOB, old, new) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"completions": 2}, "spec.completions"),
        ({"completionMode": "Indexed"}, "spec.completionMode"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "spec.selector"),
        ({"podReplacementPolicy": "Failed"}, "spec.podReplacementPolicy"),
    ],
)
def test_what_an_update_may_not_change(job: Manifest, change: Manifest, where: str) -> None:
    old, _ = create(JOB, job)
    new = copy.deepcopy(old)
    new["spec"] |= change
    found = update(JOB, old, new)
    assert [e.path for e in found if "field is immutable" in e.message] == [where]


def test_an_indexed_job_may_grow_with_its_parallelism(job: Manifest) -> None:
    job["spec"] |= {"completionMode": "Indexed", "completions": 2, "parallelism": 2}
    old, _ = create(JOB, job)
    new = copy.deepcopy(old)
    new["spec"] |= {"completions": 3, "parallelism": 3}
    assert update(JOB, old, new) == []
    new["spec"]["parallelism"] = 2
    assert "in tandem with spec.parallelism" in update(JOB, old, new)[0].message


@pytest.mark.parametrize(
    ("suspend", "status", "allowed"),
    [(True, {}, True), (False, {}, False), (True, {"startTime": "2026-01-01T00:00:00Z"}, False)],
)
def test_scheduling_of_the_template_may_change_before_the_first_start(
    job: Manifest, suspend: bool, status: Manifest, allowed: bool
) -> None:
    job["spec"]["suspend"] = suspend
    old, _ = create(JOB, job)
    old["status"] = status
    new = copy.deepcopy(old)
    new["spec"]["suspend"] = False
    new["spec"]["template"]["spec"]["nodeSelector"] = {"zone": "a"}
    new["spec"]["template"]["metadata"]["labels"]["flavor"] = "spot"
    found = update(JOB, old, new)
    assert (found == []) is allowed
    assert allowed or found[0].path == "spec.template"


def test_the_command_of_the_template_never_changes(job: Manifest) -> None:
    job["spec"]["suspend"] = True
    old, _ = create(JOB, job)
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["containers"][0]["command"] = ["false"]
    assert [e.path for e in update(JOB, old, new)] == ["spec.template"]
