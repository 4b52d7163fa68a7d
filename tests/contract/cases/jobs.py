"""Jobs: defaults, rules, and how they go from start to end."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import conditions, pick, said, without

_WAIT = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
_TIMES = ("startTime", "completionTime")


def _refused(api: Api, **fields: Any) -> Any:
    return said(api.post("jobs", api.object("jobs", spec=api.job_spec(**{"suspend": True, **fields}))))


def _ends(api: Api, type_: str) -> Any:
    return api.until_condition(f"jobs/{api.name}", type_)


def _counts(job: Any) -> Any:
    return without(job["status"], "conditions", *_TIMES)


def defaults(api: Api) -> Any:
    """What a Job's spec is completed with."""
    spec = api.job(suspend=True)["spec"]
    return [without(spec, "template"), spec["template"]["metadata"]]


def template_defaults(api: Api) -> Any:
    """The pod template has the defaults of a pod's spec, but for what admission adds."""
    spec = api.job(suspend=True)["spec"]["template"]["spec"]
    return without(spec, "containers", "runtimeClassName")


def parallelism_defaults(api: Api) -> Any:
    """completions alone, parallelism alone, and neither."""
    found = []
    variants: dict[str, dict[str, Any]] = {"many": {"completions": 3}, "wide": {"parallelism": 2}, "none": {}}
    for name, fields in variants.items():
        spec = api.job(name=f"{api.name}-{name}", suspend=True, **fields)["spec"]
        found.append([name, spec.get("completions"), spec.get("parallelism")])
    return found


def labels_default(api: Api) -> Any:
    """A Job without labels gets those of its template."""
    body = {"metadata": {"name": api.name}, "spec": api.job_spec(suspend=True)}
    return pick(api.made(api.post("jobs", body)), "metadata.labels")


def status_at_first(api: Api) -> Any:
    """The status of a new Job is empty."""
    return api.job(suspend=True).get("status")


def negative_numbers(api: Api) -> Any:
    """Numbers aren't negative."""
    names = ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
    return [_refused(api, **{name: -1}) for name in names]


def completion_mode_unknown(api: Api) -> Any:
    """completionMode is one of two."""
    return _refused(api, completionMode="Mixed")


def indexed_without_completions(api: Api) -> Any:
    """An Indexed Job says how many indexes."""
    return _refused(api, completionMode="Indexed")


def indexed_too_parallel(api: Api) -> Any:
    """An Indexed Job runs 100000 pods at once at most."""
    return _refused(api, completionMode="Indexed", completions=200_000, parallelism=200_000)


def restart_policy_always(api: Api) -> Any:
    """Pods of a Job aren't restarted always."""
    return _refused(api, pod={"restartPolicy": "Always"})


def replacement_policy_unknown(api: Api) -> Any:
    """podReplacementPolicy is one of two."""
    return _refused(api, podReplacementPolicy="Soon")


def selector_of_ones_own(api: Api) -> Any:
    """A selector is the server's to make, unless manualSelector is set."""
    answer = _refused(api, selector={"matchLabels": {"a": "b"}})
    return pick(answer, "code", "reason", "causes")


def without_template(api: Api) -> Any:
    """A Job needs a template with containers."""
    return said(api.post("jobs", api.object("jobs", spec={})))


def invalid_template(api: Api) -> Any:
    """Rules of pods hold for the template, with its path."""
    return _refused(api, pod={"containers": [api.container("Bad_Name", env=[{"name": ""}])]})


def update_of_completions(api: Api) -> Any:
    """completions can't be changed."""
    api.job(suspend=True, completions=2)
    return said(api.patch(f"jobs/{api.name}", {"spec": {"completions": 3}}))


def update_of_template(api: Api) -> Any:
    """The template can't be changed."""
    api.job(suspend=False, parallelism=0)
    answer = said(
        api.patch(f"jobs/{api.name}", {"spec": {"template": {"spec": {"activeDeadlineSeconds": 5}}}})
    )
    return pick(answer, "code", "reason", "causes")


def update_of_selector(api: Api) -> Any:
    """The selector can't be changed."""
    api.job(suspend=True)
    answer = said(api.patch(f"jobs/{api.name}", {"spec": {"selector": {"matchLabels": {"a": "b"}}}}))
    return pick(answer, "code", "reason", "causes")


def update_of_mode(api: Api) -> Any:
    """completionMode can't be changed."""
    api.job(suspend=True, completions=2)
    return said(api.patch(f"jobs/{api.name}", {"spec": {"completionMode": "Indexed"}}))


def update_of_numbers(api: Api) -> Any:
    """parallelism, backoffLimit, activeDeadlineSeconds and ttl can be changed."""
    api.job(suspend=True)
    fields = {"parallelism": 4, "backoffLimit": 1, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 60}
    return [said(api.patch(f"jobs/{api.name}", {"spec": {name: value}})) for name, value in fields.items()]


def update_of_suspended_template(api: Api) -> Any:
    """Where pods may run can be changed while a Job is suspended and hasn't started."""
    api.job(suspend=True)
    patch = {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}
    return pick(api.made(api.patch(f"jobs/{api.name}", patch)), "spec.template.spec.nodeSelector")


def update_of_elastic_index(api: Api) -> Any:
    """An Indexed Job's completions change together with its parallelism."""
    api.job(suspend=True, completionMode="Indexed", completions=2, parallelism=2)
    path = f"jobs/{api.name}"
    both = api.patch(path, {"spec": {"completions": 3, "parallelism": 3}})
    one = api.patch(path, {"spec": {"completions": 4}})
    return [said(both), said(one)]


def completes(api: Api) -> Any:
    """A Job whose pod succeeds is Complete."""
    api.job()
    job = _ends(api, "Complete")
    return [_counts(job), conditions(job), [name in job["status"] for name in _TIMES]]


def completes_several(api: Api) -> Any:
    """A Job with several completions is Complete after so many."""
    api.job(completions=3, parallelism=2)
    return _counts(_ends(api, "Complete"))


def fails_at_once(api: Api) -> Any:
    """With backoffLimit 0 the first failure ends the Job."""
    api.job("exit 3", backoffLimit=0)
    job = _ends(api, "Failed")
    return [_counts(job), conditions(job), [name in job["status"] for name in _TIMES]]


def tries_again(api: Api) -> Any:
    """A failed pod is replaced, after a while."""
    api.job("exit 3", backoffLimit=1)
    job = _ends(api, "Failed")
    return [_counts(job), len(api.mine("pods"))]


def restarts_count_as_failures(api: Api) -> Any:
    """With OnFailure restarts count against backoffLimit."""
    api.job("exit 3", backoffLimit=0, pod={"restartPolicy": "OnFailure"})
    return conditions(_ends(api, "Failed"))


def deadline(api: Api) -> Any:
    """A Job over its activeDeadlineSeconds is Failed, and its pods go."""
    api.job(_WAIT, activeDeadlineSeconds=1)
    job = _ends(api, "Failed")
    return [conditions(job), _counts(job)]


def suspended(api: Api) -> Any:
    """A suspended Job has no pods, and says so."""
    api.job(suspend=True)
    job = _ends(api, "Suspended")
    return [conditions(job), _counts(job), [name in job["status"] for name in _TIMES], api.mine("pods")]


def suspended_while_it_runs(api: Api) -> Any:
    """A Job that is suspended loses its pods, and its start time; resumed, it goes on."""
    api.job(_WAIT)
    api.until(f"jobs/{api.name}", lambda job: pick(job, "status.ready"))
    api.made(api.patch(f"jobs/{api.name}", {"spec": {"suspend": True}}))
    job = api.until(f"jobs/{api.name}", lambda job: conditions(job) and not pick(job, "status.active"))
    api.until("pods", lambda found: not found["items"], labelSelector=f"case={api.name}")
    first = [conditions(job), "startTime" in job["status"], pick(job, "status.failed")]
    api.made(api.patch(f"jobs/{api.name}", {"spec": {"suspend": False}}))
    job = api.until(f"jobs/{api.name}", lambda job: pick(job, "status.active"))
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return [first, conditions(job), "startTime" in job["status"]]


def resumed(api: Api) -> Any:
    """A Job that was suspended from the start runs when it is resumed."""
    api.job(suspend=True)
    _ends(api, "Suspended")
    api.made(api.patch(f"jobs/{api.name}", {"spec": {"suspend": False}}))
    return sorted(conditions(_ends(api, "Complete")))


def nothing_to_do(api: Api) -> Any:
    """A Job with no completions is Complete at once."""
    api.job(completions=0)
    job = _ends(api, "Complete")
    return [_counts(job), conditions(job)]


def parallelism_of_zero(api: Api) -> Any:
    """A Job with parallelism 0 waits."""
    api.job(parallelism=0)
    job = api.until(f"jobs/{api.name}", lambda job: pick(job, "status.startTime"))
    return [_counts(job), conditions(job), api.mine("pods")]


def scaled_down(api: Api) -> Any:
    """Less parallelism removes pods."""
    api.job(_WAIT, parallelism=3, completions=3)
    api.until(f"jobs/{api.name}", lambda job: pick(job, "status.ready") == 3)
    api.made(api.patch(f"jobs/{api.name}", {"spec": {"parallelism": 1}}))
    job = api.until(
        f"jobs/{api.name}",
        lambda job: pick(job, "status.active") == 1 and not pick(job, "status.terminating"),
    )
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return pick(job, "status.active", "status.failed")


def counts_while_it_runs(api: Api) -> Any:
    """The counts of a Job that runs."""
    api.job(_WAIT, parallelism=2)
    job = api.until(f"jobs/{api.name}", lambda job: pick(job, "status.ready") == 2)
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return [_counts(job), conditions(job)]


def pods_of_a_job(api: Api) -> Any:
    """Pods have a name and labels of the Job, the Job as controller, and a finalizer while they count."""
    job = api.job(_WAIT)
    pod = api.until("pods", lambda found: found["items"], labelSelector=f"case={api.name}")["items"][0]
    metadata = pod["metadata"]
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    owner = without(metadata["ownerReferences"][0], "uid")
    same = metadata["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    name = [metadata.get("generateName"), len(metadata["name"]) - len(api.name)]
    return [name, metadata["labels"], owner, same, metadata.get("finalizers")]


def pods_are_released(api: Api) -> Any:
    """A pod that was counted has no finalizer any more, and stays."""
    api.job()
    _ends(api, "Complete")
    pods = api.until(
        "pods", lambda found: not pick(found, "items.0.metadata.finalizers"), labelSelector=f"case={api.name}"
    )
    return [[pick(pod, "status.phase", "metadata.finalizers") for pod in pods["items"]]]


def indexed(api: Api) -> Any:
    """Each index of an Indexed Job runs once, and knows itself."""
    api.job("echo $JOB_COMPLETION_INDEX", completionMode="Indexed", completions=3, parallelism=3)
    job = _ends(api, "Complete")
    found = []
    for pod in api.mine("pods"):
        name = pod["metadata"]["name"]
        index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        label = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
        prefix = name.rpartition("-")[0]
        found.append([index, label, prefix, pick(pod, "spec.hostname"), api.read(f"pods/{name}/log")])
    return [sorted(found), pick(job, "status.completedIndexes", "status.succeeded")]


def indexed_environment(api: Api) -> Any:
    """The index comes as a variable from an annotation."""
    api.job(_WAIT, completionMode="Indexed", completions=1)
    pod = api.until("pods", lambda found: found["items"], labelSelector=f"case={api.name}")["items"][0]
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return pick(pod, "spec.containers.0.env")


def indexed_half_done(api: Api) -> Any:
    """completedIndexes says which are done, failed Jobs too."""
    script = "test $JOB_COMPLETION_INDEX != 1"
    api.job(script, completionMode="Indexed", completions=3, parallelism=1, backoffLimit=0)
    return pick(_ends(api, "Failed"), "status.completedIndexes", "status.succeeded", "status.failed")


def removed_after_its_time(api: Api) -> Any:
    """A Job with ttlSecondsAfterFinished 0 goes when it has ended, with its pods."""
    api.job(ttlSecondsAfterFinished=0)
    api.until_gone(f"jobs/{api.name}")
    api.until("pods", lambda found: not found["items"], labelSelector=f"case={api.name}")
    return "gone"


def deleted_pod_is_replaced(api: Api) -> Any:
    """A pod that was deleted is replaced."""
    api.job(_WAIT)
    query = {"labelSelector": f"case={api.name}"}
    first = api.until("pods", lambda found: found["items"], **query)["items"][0]["metadata"]["name"]
    api.until_phase("Running", first)
    api.delete(f"pods/{first}")

    def replaced(found: Any) -> bool:
        return any(pod["metadata"]["name"] != first for pod in found["items"])

    api.until("pods", replaced, **query)
    api.until_gone(f"pods/{first}")
    job = api.until(f"jobs/{api.name}", lambda job: pick(job, "status.active") == 1)
    api.delete(f"jobs/{api.name}", {"propagationPolicy": "Background"})
    return pick(job, "status.failed", "status.active")


def events_of_a_job(api: Api) -> Any:
    """The controller tells what it did."""
    api.job()
    _ends(api, "Complete")
    query = {"fieldSelector": f"involvedObject.name={api.name},involvedObject.kind=Job"}
    events = api.until("events", lambda found: len(found["items"]) >= 2, **query)["items"]
    found = [
        pick(event, "reason", "type", "involvedObject.apiVersion", "reportingComponent") for event in events
    ]
    return sorted(found, key=str)


def events_of_a_failure(api: Api) -> Any:
    """Also why it gave up."""
    api.job("exit 1", backoffLimit=0)
    _ends(api, "Failed")
    query = {"fieldSelector": f"involvedObject.name={api.name},involvedObject.kind=Job,type=Warning"}
    event = api.until("events", lambda found: found["items"], **query)["items"][0]
    return pick(event, "reason", "message")


def finished_job_stays_finished(api: Api) -> Any:
    """A Job that has ended can't be resumed or changed to run again."""
    api.job()
    _ends(api, "Complete")
    answer = said(api.patch(f"jobs/{api.name}", {"spec": {"parallelism": 5}}))
    job = api.read(f"jobs/{api.name}")
    return [answer, pick(job, "status.active", "status.succeeded"), len(api.mine("pods"))]


def status_rules(api: Api) -> Any:
    """The status of a Job can't be made up."""
    api.job(suspend=True)
    _ends(api, "Suspended")
    path = f"jobs/{api.name}/status"
    patches: list[dict[str, Any]] = [
        {"active": -1},
        {"conditions": [{"type": "Complete", "status": "True"}]},
        {"completionTime": "2020-01-01T00:00:00Z"},
    ]
    answers = [said(api.patch(path, {"status": patch})) for patch in patches]
    return [pick(answer, "code", "reason") for answer in answers]


def failure_policy(api: Api) -> Any:
    """podFailurePolicy says which failures end a Job."""
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    answer = api.post(
        "jobs", api.object("jobs", spec=api.job_spec(suspend=True, podFailurePolicy={"rules": rules}))
    )
    return pick(said(answer), "code", "reason")


def success_policy(api: Api) -> Any:
    """successPolicy says which indexes are enough."""
    spec = api.job_spec(
        suspend=True,
        completionMode="Indexed",
        completions=2,
        successPolicy={"rules": [{"succeededCount": 1}]},
    )
    return pick(said(api.post("jobs", api.object("jobs", spec=spec))), "code", "reason")


def backoff_per_index(api: Api) -> Any:
    """backoffLimitPerIndex counts failures of each index."""
    spec = api.job_spec(suspend=True, completionMode="Indexed", completions=2, backoffLimitPerIndex=1)
    return pick(said(api.post("jobs", api.object("jobs", spec=spec))), "code", "reason")
