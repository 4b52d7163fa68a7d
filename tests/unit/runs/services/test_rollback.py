"""Which template a service goes back to, and what it keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import (
    ANNOTATION_COMMAND,
    ANNOTATION_REVISION,
    ANNOTATION_SPEC,
    ANNOTATION_STOPPED_AT,
    LABEL_RUN,
    LABEL_TEMPLATE_HASH,
)
from gpuyard.runs.services.rollback import choose_revision, taken_back


def spec(**service: Any) -> str:
    return json.dumps({"folder": "/", "spec": {"run": "x", "service": {"port": "80", **service}}})


def manifest(revision: int | str, command: str = "", service: str = "", **more: str) -> Manifest:
    annotations = {
        ANNOTATION_REVISION: str(revision),
        ANNOTATION_COMMAND: command,
        ANNOTATION_SPEC: service or spec(),
        **more,
    }
    labels = {LABEL_RUN: "digits", LABEL_TEMPLATE_HASH: f"h{revision}"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": command}]}}
    return {
        "metadata": {"name": "digits", "annotations": annotations, "resourceVersion": "7"},
        "spec": {"replicas": 3, "template": template},
    }


SETS = [manifest(1), manifest(3), manifest(4), manifest("x")]


@pytest.mark.parametrize(
    ("current", "wanted", "expected"), [(4, None, 3), (5, None, 4), (4, 1, 1), (3, 4, 4)]
)
def test_the_one_before_or_the_one_that_is_named(current: int, wanted: int | None, expected: int) -> None:
    found = choose_revision(manifest(current), SETS, wanted)
    assert found["metadata"]["annotations"][ANNOTATION_REVISION] == str(expected)


@pytest.mark.parametrize(
    ("current", "wanted", "said", "remedy"),
    [
        (1, None, "has no earlier revision", "gpuyard update digits"),
        (4, 2, "has no revision 2", "besides the present 4: 1, 3"),
        (4, 4, "is at revision 4", "nothing to do"),
    ],
)
def test_what_is_not_there_is_told(current: int, wanted: int | None, said: str, remedy: str) -> None:
    with pytest.raises(errors.UsageError) as raised:
        choose_revision(manifest(current), SETS, wanted)
    assert said in raised.value.message and remedy in raised.value.remedy


def test_it_has_the_template_of_then_and_the_scaling_of_now() -> None:
    then = manifest(1, "old.py", spec(replicas="1"), **{ANNOTATION_STOPPED_AT: "t"})
    now = manifest(2, "new.py", spec(replicas="1..8", target={"p99": "1s"}), theirs="stays")
    back = taken_back(now, then, has_room=True)
    assert back["spec"]["replicas"] == 3
    assert back["spec"]["template"]["spec"] == {"containers": [{"name": "old.py"}]}
    assert back["spec"]["template"]["metadata"]["labels"] == {LABEL_RUN: "digits"}
    annotations = back["metadata"]["annotations"]
    assert (annotations[ANNOTATION_COMMAND], annotations["theirs"]) == ("old.py", "stays")
    assert ANNOTATION_STOPPED_AT not in annotations
    assert annotations[ANNOTATION_REVISION] == "2"  # for its controller to change
    kept = json.loads(annotations[ANNOTATION_SPEC])["spec"]["service"]
    assert kept == {"port": "80", "replicas": "1..8", "target": {"p99": "1s"}}
    assert then["spec"]["template"]["metadata"]["labels"][LABEL_TEMPLATE_HASH] == "h1"


@pytest.mark.parametrize(
    ("keys", "has_room", "rolling"),
    [
        ({}, True, {"maxSurge": 1, "maxUnavailable": 0}),
        ({}, False, {"maxSurge": 0, "maxUnavailable": 1}),
        ({"max_surge": "2"}, False, "as it was"),
    ],
)
def test_it_goes_back_one_by_one_where_none_more_has_room(
    keys: dict[str, str], has_room: bool, rolling: object
) -> None:
    now = manifest(2, "new.py", spec(**keys))
    now["spec"]["strategy"] = {"rollingUpdate": "as it was"}
    back = taken_back(now, manifest(1, "old.py"), has_room=has_room)
    assert back["spec"]["strategy"]["rollingUpdate"] == rolling


def test_the_address_keeps_its_port() -> None:
    """The old template listens where it did: the Service finds its port by name."""
    then, now = manifest(1, "old.py", spec(port="80")), manifest(2, "new.py", spec(port="90"))
    kept = json.loads(taken_back(now, then, has_room=True)["metadata"]["annotations"][ANNOTATION_SPEC])
    assert kept["spec"]["service"]["port"] == "90"
