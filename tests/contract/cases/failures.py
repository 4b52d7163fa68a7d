"""podFailurePolicy: which failures of a Job's pods count, and which end it."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import conditions, pick, said, without

_WAIT = "trap 'exit 3' TERM; while :; do sleep 0.05; done"
_DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}


def _on_codes(action: str, *values: int, **fields: Any) -> dict[str, Any]:
    return {"action": action, "onExitCodes": {"operator": "In", "values": list(values), **fields}}


def _job(api: Api, script: str, *rules: dict[str, Any], **fields: Any) -> Any:
    return api.job(script, podFailurePolicy={"rules": list(rules)}, **fields)


def _refused(api: Api, *rules: dict[str, Any], **fields: Any) -> Any:
    spec = api.job_spec(suspend=True, podFailurePolicy={"rules": list(rules)}, **fields)
    return pick(said(api.post("jobs", api.object("jobs", spec=spec))), "code", "reason", "causes")


def _pods(api: Api) -> list[str]:
    found = api.read("pods", labelSelector=f"case={api.name}")["items"]
    return [pod["metadata"]["name"] for pod in found]


def _first_pod(api: Api) -> str:
    query = {"labelSelector": f"case={api.name}"}
    name: str = api.until("pods", lambda found: found["items"], **query)["items"][0]["metadata"]["name"]
    return name


def _evict(api: Api, pod: str) -> Any:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    return api.post(f"pods/{pod}/eviction", body)


def _ended(api: Api) -> Any:
    """The Job's failures and conditions once it has failed, without the name of its pod."""
    job = api.until_condition(f"jobs/{api.name}", "Failed")
    pod = _pods(api)[0]
    found = [[str(part).replace(pod, "POD") for part in one] for one in conditions(job)]
    return [pick(job, "status.failed"), found]


def policy_defaults(api: Api) -> Any:
    """A condition is meant to be True, and only pods that have failed are replaced."""
    spec = _job(api, "exit 0", _DISRUPTED, suspend=True)["spec"]
    return pick(spec, "podFailurePolicy", "podReplacementPolicy", "backoffLimit")


def action_unknown(api: Api) -> Any:
    """A rule's action is one of four."""
    return _refused(api, {**_DISRUPTED, "action": "Stop"})


def fail_index_without_indexes(api: Api) -> Any:
    """FailIndex needs backoffLimitPerIndex."""
    return _refused(api, {**_DISRUPTED, "action": "FailIndex"})


def rule_about_nothing(api: Api) -> Any:
    """A rule names exit codes or conditions."""
    return _refused(api, {"action": "Count"})


def rule_about_both(api: Api) -> Any:
    """And not both."""
    return _refused(api, {**_on_codes("Count", 1), **_DISRUPTED})


def codes_in_disorder(api: Api) -> Any:
    """Exit codes ascend, each once."""
    return [_refused(api, _on_codes("Count", *values)) for values in ((3, 2), (2, 2), ())]


def code_zero(api: Api) -> Any:
    """0 is no failure that could be named, but may be what a code isn't."""
    not_zero = {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}}
    return [_refused(api, _on_codes("Count", 0)), _refused(api, not_zero)]


def container_unknown(api: Api) -> Any:
    """A rule's container is one of the template."""
    return _refused(api, _on_codes("Count", 1, containerName="other"))


def too_many_rules(api: Api) -> Any:
    """There are 20 rules at most."""
    return _refused(api, *[_DISRUPTED] * 21)


def replaces_what_ends(api: Api) -> Any:
    """With a policy no pod is replaced before it has ended."""
    return _refused(api, _DISRUPTED, podReplacementPolicy="TerminatingOrFailed")


def restarts_in_place(api: Api) -> Any:
    """With a policy no container is started again in its pod."""
    return _refused(api, _DISRUPTED, pod={"restartPolicy": "OnFailure"})


def change_of_policy(api: Api) -> Any:
    """The policy can't be changed."""
    _job(api, "exit 0", _DISRUPTED, suspend=True)
    patch = {"spec": {"podFailurePolicy": {"rules": [_on_codes("Count", 1)]}}}
    return pick(said(api.patch(f"jobs/{api.name}", patch)), "code", "reason", "causes")


def fail_job_by_code(api: Api) -> Any:
    """FailJob ends the Job at the first such failure, and says which rule it was."""
    _job(api, "exit 42", _on_codes("Ignore", 7), _on_codes("FailJob", 42))
    return _ended(api)


def fail_job_by_condition(api: Api) -> Any:
    """Conditions of a pod can end the Job as well."""
    started = {"action": "FailJob", "onPodConditions": [{"type": "Initialized", "status": "True"}]}
    _job(api, "exit 42", started)
    return _ended(api)


def count(api: Api) -> Any:
    """Count is what no rule means, too: the failure counts towards backoffLimit."""
    _job(api, "exit 3", _on_codes("Count", 3), _on_codes("FailJob", 3), backoffLimit=0)
    return _ended(api)


def ignore(api: Api) -> Any:
    """An ignored failure counts for nothing, and the pod is made again once it has ended."""
    _job(api, _WAIT, _DISRUPTED, backoffLimit=0)
    first = _first_pod(api)
    api.until_phase("Running", first)
    answer = _evict(api, first)

    def replaced(found: Any) -> bool:
        return any(pod["metadata"]["name"] != first for pod in found["items"])

    api.until("pods", replaced, labelSelector=f"case={api.name}")
    api.until_gone(f"pods/{first}")
    job = api.until(f"jobs/{api.name}", lambda job: pick(job, "status.active") == 1)
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return [answer.code, without(job["status"], "startTime", "ready")]


def eviction_says_why(api: Api) -> Any:
    """An evicted pod has the condition DisruptionTarget."""
    api.parked_pod(metadata={"finalizers": ["example.com/held"]})
    answer = _evict(api, api.name)
    pod = api.read(f"pods/{api.name}")
    api.patch(f"pods/{api.name}", {"metadata": {"finalizers": None}})
    return [answer.code, [c for c in conditions(pod) if c[0] == "DisruptionTarget"]]


def eviction_of_another(api: Api) -> Any:
    """An eviction that means another pod of the name does nothing."""
    api.parked_pod()
    options = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": api.name},
        "deleteOptions": options,
    }
    answer = api.post(f"pods/{api.name}/eviction", body)
    return [pick(said(answer), "code", "reason"), conditions(api.read(f"pods/{api.name}"))]


def deleted_before_it_has_a_node(api: Api) -> Any:
    """A pod that is deleted before it has a node fails, so that its Job makes another."""
    _job(api, "exit 0", _DISRUPTED, pod={"schedulerName": "nobody"}, backoffLimit=1)
    first = _first_pod(api)
    api.delete(f"pods/{first}")
    api.until_gone(f"pods/{first}")
    job = api.until(f"jobs/{api.name}", lambda job: pick(job, "status.failed") == 1)
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return pick(job, "status.failed")
