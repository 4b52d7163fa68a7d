"""Deployments and ReplicaSets."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.contract.api import Api
from tests.contract.observations import conditions, pick, said, without

_SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
_REVISION = "deployment.kubernetes.io/revision"


def _spec(api: Api, replicas: int = 1, script: str = _SLEEP, **fields: Any) -> dict[str, Any]:
    labels = {"case": api.name}
    pod = api.pod_spec(script, restartPolicy="Always")
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **fields}


def _refused(api: Api, plural: str = "deployments", **fields: Any) -> Any:
    return said(api.post(plural, api.object(plural, spec=_spec(api, **fields))))


def _masked(observation: Any) -> Any:
    """Without the digest of the template, which is made in another way."""
    text = json.dumps(observation)
    return json.loads(
        re.sub(
            r"(-|template-hash\": \"|template-hash=)[bcdfghjklmnpqrstvwxz2456789]{8,10}\b", r"\1DIGEST", text
        )
    )


def _available(api: Api, count: int) -> Any:
    """The Deployment once all of its newest pods are available, and no others are left."""

    def holds(found: Any) -> bool:
        status = found.get("status", {})
        names = ("replicas", "updatedReplicas", "availableReplicas")
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return seen and [status.get(name, 0) for name in names] == [count] * 3

    return api.until(f"deployments/{api.name}", holds)


def _sets(api: Api) -> list[Any]:
    """Its ReplicaSets, the oldest first."""
    return sorted(api.mine("replicasets"), key=lambda one: int(one["metadata"]["annotations"][_REVISION]))


def _gone(api: Api) -> None:
    api.delete(f"deployments/{api.name}", {"propagationPolicy": "Foreground"})


def defaults(api: Api) -> Any:
    """What a Deployment gets besides what it says."""
    made = api.make("deployments", spec=_spec(api, paused=True))
    return [without(made["spec"], "template"), made["status"], pick(made, "metadata.generation")]


def defaults_of_a_replica_set(api: Api) -> Any:
    """What a ReplicaSet gets."""
    made = api.make("replicasets", spec=_spec(api, replicas=0))
    return [without(made["spec"], "template"), made["status"], pick(made, "metadata.generation")]


def rules(api: Api) -> Any:
    """Selector, template and numbers have their rules."""
    labels = {"metadata": {"labels": {"other": "a"}}, "spec": api.pod_spec(restartPolicy="Always")}
    never = {"metadata": {"labels": {"case": api.name}}, "spec": api.pod_spec()}
    return [
        _refused(api, template=labels),
        _refused(api, template=never),
        _refused(api, selector={}),
        _refused(api, replicas=-1),
        _refused(api, minReadySeconds=600),
        _refused(api, revisionHistoryLimit=-1),
    ]


def rules_of_updates(api: Api) -> Any:
    """So has the way it is updated."""
    return [
        _refused(api, strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        _refused(api, strategy={"rollingUpdate": {"maxUnavailable": "101%"}}),
        _refused(api, strategy={"rollingUpdate": {"maxSurge": "some"}}),
        _refused(api, strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
        _refused(api, strategy={"type": "BlueGreen"}),
    ]


def rules_of_a_replica_set(api: Api) -> Any:
    """A ReplicaSet has those that it shares."""
    labels = {"metadata": {"labels": {"other": "a"}}, "spec": api.pod_spec(restartPolicy="Always")}
    return [_refused(api, "replicasets", template=labels), _refused(api, "replicasets", replicas=-1)]


def selector_is_frozen(api: Api) -> Any:
    """The selector stays."""
    api.make("deployments", spec=_spec(api, replicas=0))
    change = {"spec": {"selector": {"matchLabels": {"case": None, "b": "c"}}}}
    return said(api.patch(f"deployments/{api.name}", change))


def rolled_out(api: Api) -> Any:
    """A Deployment makes a ReplicaSet, which makes pods."""
    api.make("deployments", spec=_spec(api, replicas=2))
    found = _available(api, 2)
    [replica_set] = _sets(api)
    pods = api.mine("pods")
    _gone(api)
    return _masked(
        [
            without(found["status"], "conditions", "terminatingReplicas"),
            sorted(conditions(found)),
            found["metadata"]["annotations"],
            pick(replica_set, "metadata.name", "metadata.labels", "metadata.annotations", "spec.selector"),
            pick(replica_set, "metadata.ownerReferences.0.kind", "spec.replicas", "spec.template.metadata"),
            [pick(pod, "metadata.ownerReferences.0.kind", "metadata.labels") for pod in pods],
        ]
    )


def updated(api: Api) -> Any:
    """A change of the template is another revision; the former stays, without pods."""
    api.make("deployments", spec=_spec(api))
    _available(api, 1)
    change = {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}
    api.made(api.patch(f"deployments/{api.name}", change))
    api.until(f"deployments/{api.name}", lambda found: found["metadata"]["annotations"][_REVISION] == "2")
    _available(api, 1)
    sets = [pick(one, "spec.replicas", "metadata.annotations") for one in _sets(api)]
    _gone(api)
    return sets


def back_to_a_former_template(api: Api) -> Any:
    """A template that was there before has its ReplicaSet again, and the next number."""
    api.make("deployments", spec=_spec(api, replicas=0))
    api.until(f"deployments/{api.name}", lambda found: pick(found, "status.observedGeneration") == 1)
    for number, value in ((2, "b"), (3, None)):
        change = {"spec": {"template": {"metadata": {"annotations": {"a": value}}}}}
        api.made(api.patch(f"deployments/{api.name}", change))
        wanted = str(number)
        api.until(
            f"deployments/{api.name}",
            lambda found: found["metadata"]["annotations"].get(_REVISION) == wanted,  # noqa: B023
        )
    sets = [one["metadata"]["annotations"] for one in _sets(api)]
    _gone(api)
    return sets


def paused(api: Api) -> Any:
    """One that is paused says so, and makes nothing of a new template."""
    api.make("deployments", spec=_spec(api, replicas=0, paused=True))
    api.until_condition(f"deployments/{api.name}", "Progressing", "Unknown")
    found = api.until_condition(f"deployments/{api.name}", "Available")
    return [sorted(conditions(found)), len(_sets(api))]


def scale(api: Api) -> Any:
    """Its scale is read and written in its place."""
    api.make("deployments", spec=_spec(api, replicas=0))
    before = without(api.read(f"deployments/{api.name}/scale"), "metadata")
    change = {"spec": {"replicas": 1}}
    patched = api.made(api.patch(f"deployments/{api.name}/scale", change))
    refused = said(api.patch(f"deployments/{api.name}/scale", {"spec": {"replicas": -1}}))
    _available(api, 1)
    _gone(api)
    return [before, patched["spec"], refused]


def adopts_a_pod(api: Api) -> Any:
    """A ReplicaSet takes on a pod that its selector matches, and makes the rest."""
    api.pod(_SLEEP, restartPolicy="Always")
    api.make("replicasets", spec=_spec(api, replicas=2))
    api.until(f"replicasets/{api.name}", lambda found: pick(found, "status.readyReplicas") == 2)
    owners = [pick(pod, "metadata.ownerReferences.0.kind") for pod in api.mine("pods")]
    api.delete(f"replicasets/{api.name}")
    return owners


def status_of_a_replica_set(api: Api) -> Any:
    """Its status counts its pods."""
    api.make("replicasets", spec=_spec(api))
    found = api.until(f"replicasets/{api.name}", lambda found: pick(found, "status.availableReplicas") == 1)
    api.delete(f"replicasets/{api.name}")
    return without(found["status"], "terminatingReplicas")


def tables(api: Api) -> Any:
    """As kubectl shows them."""
    api.make("deployments", spec=_spec(api, replicas=0, paused=True))
    api.make("replicasets", spec=_spec(api, replicas=0))
    result = []
    for plural in ("deployments", "replicasets"):
        found = api.table(f"{plural}/{api.name}")
        columns = [column["name"] for column in found["columnDefinitions"]]
        cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
        result.append({name: cell for name, cell in cells.items() if name not in ("Age", "Up-to-date")})
    return result
