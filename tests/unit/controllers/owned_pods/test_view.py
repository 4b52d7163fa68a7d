from __future__ import annotations

from typing import Any

import pytest

from gpuyard.controllers.owned_pods.view import view_pod
from gpuyard.kube.timestamps import parse_time


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    base = {"name": "p", "namespace": "default", "uid": "u", "creationTimestamp": "2026-01-31T10:00:00Z"}
    return {"metadata": base | metadata, "spec": {}, "status": status}


def ended(at: str) -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": 1, "finishedAt": at}}, "restartCount": 2}


@pytest.mark.parametrize(
    ("raw", "finished"),
    [
        (
            pod(
                {
                    "phase": "Failed",
                    "containerStatuses": [ended("2026-01-31T11:00:00Z"), ended("2026-01-31T11:00:09Z")],
                }
            ),
            "2026-01-31T11:00:09Z",
        ),
        (
            pod(
                {
                    "phase": "Failed",
                    "conditions": [
                        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-31T11:30:00Z"}
                    ],
                }
            ),
            "2026-01-31T11:30:00Z",
        ),
        (
            pod(
                {"phase": "Failed"},
                deletionTimestamp="2026-01-31T11:40:30Z",
                deletionGracePeriodSeconds=30,
            ),
            "2026-01-31T11:40:00Z",
        ),
        (pod({"phase": "Failed", "startTime": "2026-01-31T10:00:05Z"}), "2026-01-31T10:00:05Z"),
        (pod({"phase": "Failed"}), "2026-01-31T10:00:00Z"),
    ],
    ids=["last container", "not ready", "deleted", "refused", "created"],
)
def test_a_failed_pod_ended_when_its_status_says(raw: dict[str, Any], finished: str) -> None:
    assert view_pod(raw).finished_at == parse_time(finished)


def test_a_running_pod_has_not_ended_though_a_container_has() -> None:
    view = view_pod(pod({"phase": "Running", "containerStatuses": [ended("2026-01-31T11:00:00Z")]}))
    assert view.finished_at is None
    assert view.restarts == 2
    assert view.active


@pytest.mark.parametrize(("text", "index"), [("7", 7), ("", None), ("-1", None), ("x", None)])
def test_an_index_is_a_number_from_zero(text: str, index: int | None) -> None:
    raw = pod({}, annotations={"batch.kubernetes.io/job-completion-index": text})
    assert view_pod(raw).index == index
