from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.wellknown import ANNOTATION_OOM_CAUSE, ANNOTATION_OOM_KILLS
from gpuyard.runs.run import Run, exit_code_of, make_run, oom_text


def run_of(
    condition: str, phase: str, exit_code: int | None, *, pod_reason: str = "", **annotations: str
) -> Run:
    terminated = {"exitCode": exit_code, "finishedAt": "2026-01-31T12:00:00Z"}
    status: dict[str, Any] = {"phase": phase, "reason": pod_reason}
    if exit_code is not None:
        status["containerStatuses"] = [{"name": "main", "state": {"terminated": terminated}}]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "1", "controller": True}
    metadata = {"name": "a-x", "creationTimestamp": "2026-01-31T11:00:00Z", "ownerReferences": [owner]}
    pod = {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status}
    job = {
        "metadata": {
            "name": "a",
            "uid": "1",
            "creationTimestamp": "2026-01-31T11:00:00Z",
            "labels": {"gpuyard.io/run": "a"},
            "annotations": annotations,
        },
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}},
        "status": {"conditions": [{"type": condition, "status": "True"}]},
    }
    return make_run(job, [pod])


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_of("Complete", "Succeeded", 0), 0),
        (run_of("Failed", "Failed", 3), 3),
        (run_of("Failed", "Failed", None), 125),
        (run_of("Failed", "Failed", 143, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 143),
        # It took SIGTERM as the wish to end, and ended well: the run is no success for that.
        (run_of("Failed", "Failed", 0, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 125),
        (run_of("Failed", "Succeeded", 0, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 125),
        (run_of("Failed", "Failed", 0), 125),
        (run_of("Failed", "Failed", 0, pod_reason="DeadlineExceeded"), 124),
        (run_of("Failed", "Failed", 143, pod_reason="DeadlineExceeded"), 143),
        (run_of("Failed", "Failed", None, pod_reason="DeadlineExceeded"), 124),
    ],
)
def test_the_exit_code_is_that_of_the_process_unless_that_says_success_and_the_run_has_none(
    run: Run, code: int
) -> None:
    assert exit_code_of(run) == code


def test_what_was_killed_for_memory_is_told_of_a_run_that_went_well() -> None:
    run = run_of("Complete", "Succeeded", 0)
    assert oom_text(run) == ""
    run.pods[0]["metadata"]["annotations"] = {ANNOTATION_OOM_KILLS: "2", ANNOTATION_OOM_CAUSE: "limit"}
    assert oom_text(run) == (
        "the kernel killed 2 of its processes for lack of memory: it reached its memory limit; "
        "raise --memory, or use less (fewer workers, smaller batches)"
    )
