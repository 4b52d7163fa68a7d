"""Which failures of a Job's pods count: the policy of our runs, and what any policy says of a pod (pure).

Source: kubernetes `pkg/controller/job/pod_failure_policy.go` (v1.37.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpuyard.kube.pods import container_statuses

#: How often a node may refuse a run without retries before the run gives up: Kubernetes' own backoffLimit.
MAX_REFUSALS = 6

_DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
#: The launcher's exit codes where another pod of the run failed or was lost, and where one never came.
EXIT_WITH_ANOTHER, EXIT_MISSING = 193, 195
#: The launcher's exit code where nobody used the run any more.
EXIT_UNUSED = 194
_ENDED_WITH_ANOTHER = {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [EXIT_WITH_ANOTHER]}}
_MISSING = {
    "action": "FailJob",
    "onExitCodes": {"operator": "In", "values": [EXIT_MISSING]},
}
_ENDED_BADLY = {"onExitCodes": {"operator": "NotIn", "values": [0]}}
#: Who is scaled away and saves for too long is killed, and who hadn't started is said to have been.
_ENDED_BADLY_AND_NOT_KILLED = {"onExitCodes": {"operator": "NotIn", "values": [0, 137]}}
#: A kubelet sets it, one way or the other, on each pod that it takes on, and on none that it refuses.
_TAKEN_ON = {
    "onPodConditions": [
        {"type": "Initialized", "status": "True"},
        {"type": "Initialized", "status": "False"},
    ],
}


class PodFailureAction(StrEnum):
    """What a rule does with a failure that it matches."""

    IGNORE = "Ignore"
    COUNT = "Count"
    FAIL_JOB = "FailJob"
    FAIL_INDEX = "FailIndex"


@dataclass(frozen=True)
class MatchedRule:
    """The first rule that a failed pod matches.

    Attributes:
        message: what the Job's condition says where the rule fails it.
    """

    action: PodFailureAction
    message: str


def retry_fields(
    retries: int,
    *,
    is_queued: bool = False,
    is_gang: bool = False,
    is_elastic: bool = False,
    by_index: bool = False,
    ends_unused: bool = False,
) -> dict[str, Any]:
    """The fields of a run's Job that say which failures end it.

    No rule can name a pod that its kubelet refused: it has no exit code and no condition. Rules name what ran
    instead, so that in a run without retries nothing else counts towards the limit. With retries the limit
    has to count what ran, and a refusal with it. So it is in a queue, too, which suspends a Job to give its
    place away: that counts no failures, but rules would look at the pods that it ends. Of several pods the
    one counts that failed, and not those that its end has ended; pods that waited in vain for another would
    do so again. In an elastic run, pods that were killed only count towards the limit: they may have been
    scaled away. Tasks of a sweep fail each for itself.
    """
    rules: list[dict[str, Any]] = [_DISRUPTED, *([_ENDED_WITH_ANOTHER, _MISSING] if is_gang else [])]
    limit = "backoffLimitPerIndex" if by_index else "backoffLimit"
    ends = PodFailureAction.FAIL_INDEX if by_index else PodFailureAction.FAIL_JOB
    if not retries and not is_queued:
        ending = (_ENDED_BADLY_AND_NOT_KILLED,) if is_elastic else (_ENDED_BADLY, _TAKEN_ON)
        rules += [{"action": str(ends), **rule} for rule in ending]
        return {limit: MAX_REFUSALS, "podFailurePolicy": {"rules": rules}}
    if ends_unused:  # Another attempt would be as idle.
        rules.append({"action": str(ends), "onExitCodes": {"operator": "In", "values": [EXIT_UNUSED]}})
    return {limit: retries, "podFailurePolicy": {"rules": rules}}


def matched_rule(policy: Mapping[str, Any] | None, pod: Mapping[str, Any]) -> MatchedRule | None:
    """The rule that a failed pod matches; None counts it."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        if why := _why(rule, pod):
            metadata, action = pod["metadata"], PodFailureAction(rule["action"])
            where = f"{metadata.get('namespace', '')}/{metadata['name']}"
            text = f"{why.format(pod=where)} matching {action} rule at index {number}"
            return MatchedRule(action, text)
    return None


def counts(policy: Mapping[str, Any] | None, pod: Mapping[str, Any]) -> bool:
    """Whether the failed pod counts as a failure of its Job."""
    rule = matched_rule(policy, pod)
    return rule is None or rule.action is not PodFailureAction.IGNORE


def is_over(job: Mapping[str, Any], failed: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these failed pods end the Job, before its controller says so."""
    spec = job["spec"]
    if "backoffLimitPerIndex" in spec:
        return False  # Others may still be to come.
    policy = spec.get("podFailurePolicy")
    for pod in failed:
        rule = matched_rule(policy, pod)
        if rule is not None and rule.action is PodFailureAction.FAIL_JOB:
            return True
    return sum(counts(policy, pod) for pod in failed) > int(spec.get("backoffLimit", 6))


def _why(rule: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    """What of the pod the rule matches, with `{pod}` for its name; empty for nothing."""
    if codes := rule.get("onExitCodes"):
        return next(_matching_exits(codes, pod), "")
    patterns = {(p["type"], p.get("status", "True")) for p in rule.get("onPodConditions") or ()}
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if (condition["type"], condition["status"]) in patterns:
            return f"Pod {{pod}} has condition {condition['type']}"
    return ""


def _matching_exits(codes: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    """Of containers first, as the controller looks."""
    status = pod.get("status") or {}
    for container in [*container_statuses(pod), *(status.get("initContainerStatuses") or ())]:
        code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode")
        if not code or codes.get("containerName", container["name"]) != container["name"]:
            continue
        if (code in codes["values"]) == (codes["operator"] == "In"):
            yield f"Container {container['name']} for pod {{pod}} failed with exit code {code}"
