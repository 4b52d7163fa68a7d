from __future__ import annotations

from typing import Any

import pytest

from gpuyard.runs.description import Attempt, Description
from gpuyard.runs.run import Run, make_run


def run_of(pod_spec: dict[str, Any]) -> Run:
    metadata = {"name": "a", "uid": "1", "creationTimestamp": "2026-01-31T11:00:00Z"}
    return make_run({"metadata": metadata, "spec": {"template": {"spec": pod_spec}}, "status": {}}, [])


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


@pytest.mark.parametrize(
    ("annotations", "deadline_s", "reason", "message"),
    [
        ({"gpuyard.io/stopped-at": "2026-01-31T12:00:00Z"}, 1, "StoppedByUser", "it was stopped"),
        # An attempt before the stop that had used its time up.
        (
            {"gpuyard.io/stopped-at": "2026-01-31T12:00:00Z"},
            60,
            "DeadlineExceeded",
            "it ran longer than its timeout of 60 s",
        ),
        ({}, 1, "DeadlineExceeded", "it ran longer than its timeout of 1 s"),
    ],
)
def test_a_stop_is_no_timeout(
    annotations: dict[str, str], deadline_s: int, reason: str, message: str
) -> None:
    pod = {
        "metadata": {"name": "a-x"},
        "spec": {"activeDeadlineSeconds": deadline_s},
        "status": {"phase": "Failed", "reason": "DeadlineExceeded"},
    }
    attempt = Attempt.of(pod, {"metadata": {"annotations": annotations}, "spec": {}})
    assert (attempt.reason, attempt.message) == (reason, message)
