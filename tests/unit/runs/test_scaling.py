"""Scaling runs, against the yard's API on a real socket; the tests are its controllers."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.objects import JOBS
from gpuyard.kube.wellknown import ANNOTATION_STOPPED_AT
from gpuyard.runs.run import find_run
from gpuyard.runs.scaling import scale_run
from gpuyard.runs.target import Target

NODES = {"gpuyard.io/nodes": "2..4"}
LABELS = {"gpuyard.io/run": "a"}
CONTAINER = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
POD_SPEC = {"runtimeClassName": "gpuyard-process", "restartPolicy": "Never", "containers": [CONTAINER]}


async def make_job(target: Target, annotations: dict[str, str]) -> None:
    spec = {
        "completions": 3,
        "parallelism": 3,
        "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
        "template": {"metadata": {"labels": LABELS}, "spec": POD_SPEC},
    }
    metadata = {"name": "a", "labels": LABELS, "annotations": annotations}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    await target.api.create(JOBS, job, "default")


async def scale(target: Target, nodes: int) -> tuple[int, dict[str, Any]]:
    before = await scale_run(target, await find_run(target, "a"), nodes)
    return before, dict((await target.api.get(JOBS, "a", "default"))["spec"])


@pytest.mark.parametrize("nodes", [2, 3, 4])
async def test_completions_and_parallelism_change_together(target: Target, nodes: int) -> None:
    await make_job(target, NODES)
    before, spec = await scale(target, nodes)
    assert (before, spec["completions"], spec["parallelism"]) == (3, nodes, nodes)


@pytest.mark.parametrize(
    ("annotations", "nodes", "message", "remedy"),
    [
        ({}, 2, "a isn't elastic: its pods start together and end together", "--nodes 2..4"),
        ({"gpuyard.io/nodes": "2..x"}, 2, "a isn't elastic", "--nodes 2..4"),
        (
            NODES,
            1,
            "a was submitted for 2 to 4 pods, not for 1",
            "choose one of those",
        ),
        (
            NODES,
            5,
            "a was submitted for 2 to 4 pods, not for 5",
            "choose one of those",
        ),
        (
            {**NODES, ANNOTATION_STOPPED_AT: "2026-01-31T12:00:00Z"},
            *(2, "a is being stopped", "submit it anew"),
        ),
    ],
)
async def test_what_can_t_be_is_refused(
    target: Target, annotations: dict[str, str], nodes: int, message: str, remedy: str
) -> None:
    await make_job(target, annotations)
    with pytest.raises(errors.UsageError, match=message) as refused:
        await scale(target, nodes)
    assert remedy in refused.value.remedy
