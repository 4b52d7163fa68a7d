"""HorizontalPodAutoscalers."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said

_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
_NAME = "gpuyard_service_requests_in_flight"
_VALUE = {"type": "AverageValue", "averageValue": "4"}


def _metric(target: dict[str, Any], name: str = _NAME) -> dict[str, Any]:
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}


def _spec(**fields: Any) -> dict[str, Any]:
    return {"scaleTargetRef": _TARGET, "maxReplicas": 8, "metrics": [_metric(_VALUE)], **fields}


def _refused(api: Api, **fields: Any) -> Any:
    return said(
        api.post("horizontalpodautoscalers", api.object("horizontalpodautoscalers", spec=_spec(**fields)))
    )


def made(api: Api) -> Any:
    """What an autoscaler gets besides what it says."""
    found = api.make("horizontalpodautoscalers", spec=_spec(), status={"desiredReplicas": 5})
    return pick(found, "spec", "status.desiredReplicas", "metadata.generation")


def behavior(api: Api) -> Any:
    """What of its behaviour isn't said has defaults."""
    wishes: tuple[dict[str, Any], ...] = (
        {"scaleDown": {"stabilizationWindowSeconds": 60}},
        {"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}},
        {"scaleUp": {"selectPolicy": "Disabled"}},
    )
    made = [
        api.make("horizontalpodautoscalers", f"{api.name}-{number}", spec=_spec(behavior=wish))
        for number, wish in enumerate(wishes)
    ]
    return [one["spec"]["behavior"] for one in made]


def rules_of_bounds(api: Api) -> Any:
    """The least isn't above the most."""
    return [
        _refused(api, minReplicas=9),
        _refused(api, maxReplicas=0),
        _refused(api, maxReplicas=-1),
        _refused(api, minReplicas=-1),
    ]


def rules_of_the_target(api: Api) -> Any:
    """What is scaled has a kind, a name and a group."""
    return [
        _refused(api, scaleTargetRef={**_TARGET, "kind": ""}),
        _refused(api, scaleTargetRef={**_TARGET, "name": ""}),
        _refused(api, scaleTargetRef={**_TARGET, "name": "a/b"}),
        _refused(api, scaleTargetRef={**_TARGET, "apiVersion": "v1"}),
    ]


def rules_of_metrics(api: Api) -> Any:
    """A metric has a name and a target."""
    both = {**_metric(_VALUE), "external": {"metric": {"name": "a"}, "target": _VALUE}}
    return [
        _refused(api, metrics=[_metric({"type": "AverageValue", "averageValue": "0"})]),
        _refused(api, metrics=[_metric({"type": "AverageValue"})]),
        _refused(api, metrics=[_metric({"averageValue": "4"})]),
        _refused(api, metrics=[_metric({"type": "Most", "averageValue": "4"})]),
        _refused(api, metrics=[_metric(_VALUE, "")]),
        _refused(api, metrics=[{"type": "Pods"}]),
        _refused(api, metrics=[{"type": "Nothing"}]),
        _refused(api, metrics=[both]),
    ]


def rules_of_behavior(api: Api) -> Any:
    """Windows and policies have their bounds."""
    policy = {"type": "Pods", "value": 1, "periodSeconds": 60}
    wishes: tuple[dict[str, Any], ...] = (
        {"stabilizationWindowSeconds": -1},
        {"stabilizationWindowSeconds": 3601},
        {"selectPolicy": "Most"},
        {"policies": []},
        {"policies": [{**policy, "type": "Nodes"}]},
        {"policies": [{**policy, "value": 0}]},
        {"policies": [{**policy, "periodSeconds": 1801}]},
        {"tolerance": "-1"},
    )
    return [_refused(api, behavior={"scaleDown": wish}) for wish in wishes]


def without_metrics(api: Api) -> Any:
    """Without a metric it is the use of CPUs."""
    return _refused(api, metrics=[])


def scales_to_zero(api: Api) -> Any:
    """No replica at all may be the least."""
    metric = {"type": "External", "external": {"metric": {"name": "a"}, "target": _VALUE}}
    answer = api.post(
        "horizontalpodautoscalers",
        api.object("horizontalpodautoscalers", spec=_spec(minReplicas=0, metrics=[metric])),
    )
    return answer.code


def table(api: Api) -> Any:
    """As kubectl shows one."""
    api.make("horizontalpodautoscalers", spec=_spec())
    found = api.table(f"horizontalpodautoscalers/{api.name}")
    columns = [column["name"] for column in found["columnDefinitions"]]
    cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
    return {name: cell for name, cell in cells.items() if name != "Age"}
