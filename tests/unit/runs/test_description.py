from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.wellknown import ANNOTATION_STOPPED_AT
from gpuyard.runs.description import Description, in_order, telling_events
from gpuyard.runs.run import Run, make_run


def run_of(pod_spec: dict[str, Any], **status: Any) -> Run:
    moment = "2026-01-31T11:00:00Z"
    annotations = {ANNOTATION_STOPPED_AT: moment} if "conditions" in status else {}
    metadata = {"name": "a", "uid": "1", "creationTimestamp": moment, "annotations": annotations}
    return make_run({"metadata": metadata, "spec": {"template": {"spec": pod_spec}}, "status": status}, [])


def test_events_of_one_second_are_in_the_order_of_their_writing() -> None:
    def event(version: str, moment: str = "2026-01-31T12:00:00Z") -> dict[str, object]:
        return {"metadata": {"resourceVersion": version}, "lastTimestamp": moment}

    events = [event("100"), event("9"), event("11"), event("200", "2026-01-31T11:00:00Z"), event("odd")]
    found = [one["metadata"]["resourceVersion"] for one in in_order(events)]
    assert found == ["200", "odd", "9", "11", "100"]


@pytest.mark.parametrize(
    ("runtime_class", "program", "python"),
    [
        ("gpuyard-process", "/opt/venv/bin/python", "/opt/venv/bin/python"),
        ("gpuyard-process", "/bin/sh", None),
        ("nvidia", "python3", None),
    ],
)
def test_the_interpreter_of_a_process_of_the_host(
    runtime_class: str, program: str, python: str | None
) -> None:
    container = {"name": "main", "image": "x", "command": [program, "train.py"]}
    run = run_of({"runtimeClassName": runtime_class, "containers": [container]})
    assert Description(run).to_json()["python"] == python


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stopped_run_did_not_reach_a_limit(stopped: bool) -> None:
    status = {"conditions": [{"type": "Failed", "status": "True"}]} if stopped else {}
    events = [{"reason": "SuccessfulCreate"}, {"reason": "BackoffLimitExceeded"}]
    run = run_of({"containers": [{"name": "main"}]}, **status)
    assert telling_events(run, events) == (events[:1] if stopped else events)
