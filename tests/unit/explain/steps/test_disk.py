"""Runs that wait for space on a disk."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.explain.ladder import climb
from gpuyard.explain.run_objects import RunObjects

FULL = "the disk that holds /home/u/yard is full: 3 MiB are free, 8 MiB are needed"
NO_SPACE = "can't write the device checkpoint /home/u/yard/devices.json: No space left on device"


def _objects(node: str | None = "here", full_disk: str = "", **status: Any) -> RunObjects:
    metadata = {"name": "a", "namespace": "default", "uid": "1"}
    spec: dict[str, Any] = {"containers": [{"name": "main", "image": "a/b:1"}]}
    pod = {"metadata": metadata, "spec": {**spec, "nodeName": node}, "status": {"phase": "Pending"}}
    if status:
        pod["status"]["containerStatuses"] = [{"name": "main", **status}]
    job = {"metadata": metadata, "spec": {"template": {"spec": spec}}}
    return RunObjects(job, None if node is None else pod, is_yard=True, full_disk=full_disk)


def _waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def test_a_container_that_finds_no_space() -> None:
    found = climb(_objects("here", FULL, **_waiting("CreateContainerError", NO_SPACE)), None).findings
    (only,) = found
    assert (only.step, only.cause, only.headline) == ("start", "node_disk", FULL)
    assert only.evidence == (f"node here says: {NO_SPACE}",)
    assert [str(remedy) for remedy in only.remedies] == [
        "remove runs that have ended, with their logs: gpuyard rm --ended",
        "free some space there; it goes on by itself then",
    ]


def test_a_node_that_is_not_a_yards_is_its_operators() -> None:
    objects = _objects("here", **_waiting("ContainerCreating", "mkdir: no space left on device"))
    (only,) = climb(RunObjects(objects.job, objects.pod), None).findings
    assert only.headline == "node here has no room on its disk"
    assert (
        str(only.remedies[0]) == "free some space there; it goes on by itself then (whoever runs the cluster)"
    )


def test_what_the_node_says_names_the_folder_before_its_condition_does() -> None:
    (only,) = climb(_objects("here", **_waiting("CreateContainerError", NO_SPACE)), None).findings
    assert only.headline == "the disk that holds /home/u/yard/devices.json is full"


@pytest.mark.parametrize(
    ("objects", "step"),
    [
        (_objects(None, FULL), "admission"),
        (_objects("", FULL), "nodes"),
        (_objects("here", FULL), "start"),
        (_objects("here", FULL, **_waiting("ContainerCreating")), "start"),
        # An image that finds no room is the image's step; what has begun is held by nothing.
        (_objects("here", FULL, **_waiting("ErrImagePull", "no space left on device")), "image"),
        (_objects("here", FULL, state={"running": {}}), None),
        (_objects("here", "", **_waiting("ContainerCreating")), None),
    ],
)
def test_where_a_full_disk_holds_it(objects: RunObjects, step: str | None) -> None:
    blocking = climb(objects, None).blocking
    assert (blocking.step if blocking else None) == step
    assert blocking is None or blocking.cause == "node_disk"
