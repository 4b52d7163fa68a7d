from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube import objects
from gpuyard.kube.objects import (
    JOBS,
    NODES,
    PODS,
    ObjectKey,
    Resource,
    annotations_of,
    controller_of,
    key_of,
    labels_of,
    number_in,
    revision_of,
    uid_of,
)
from gpuyard.kube.wellknown import ANNOTATION_REVISION


def test_keys() -> None:
    assert key_of({"metadata": {"namespace": "d", "name": "p"}}) == ObjectKey("d", "p")
    assert key_of({"metadata": {"name": "n1"}}) == ObjectKey("", "n1")
    assert [str(key) for key in (ObjectKey("d", "p"), ObjectKey("", "n1"))] == ["d/p", "n1"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("7", 7), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5000, None)]
    + [(text, None) for text in ("", "x", "-1", "1.5", " 1", "٣", "²")],
)
def test_numbers_in_annotations(text: str, number: int | None) -> None:
    manifest = {"metadata": {"annotations": {ANNOTATION_REVISION: text}}}
    assert number_in(manifest, ANNOTATION_REVISION) == number
    assert revision_of(manifest) == (number or 0)
    assert number_in({"metadata": {}}, ANNOTATION_REVISION) is None


@pytest.mark.parametrize("metadata", [{}, {"labels": None, "annotations": None}])
def test_what_is_absent_is_empty(metadata: dict[str, Any]) -> None:
    manifest = {"metadata": metadata}
    assert (labels_of(manifest), annotations_of(manifest), uid_of(manifest)) == ({}, {}, "")
    assert labels_of({}) == annotations_of({}) == {}


def test_the_controller_among_the_owners() -> None:
    owner, controller = {"name": "o"}, {"name": "c", "controller": True}
    assert controller_of({"metadata": {"ownerReferences": [owner, controller]}}) == controller
    assert controller_of({"metadata": {"ownerReferences": [owner]}}) is None
    assert controller_of({"metadata": {"ownerReferences": None}}) is None


@pytest.mark.parametrize(
    ("resource", "arguments", "path"),
    [
        (PODS, {}, "/api/v1/pods"),
        (PODS, {"namespace": "d"}, "/api/v1/namespaces/d/pods"),
        (PODS, {"namespace": "d", "name": "p"}, "/api/v1/namespaces/d/pods/p"),
        (PODS, {"namespace": "d", "name": "p", "subresource": "log"}, "/api/v1/namespaces/d/pods/p/log"),
        (JOBS, {"namespace": "d"}, "/apis/batch/v1/namespaces/d/jobs"),
        (NODES, {"namespace": "d", "name": "n1"}, "/api/v1/nodes/n1"),
    ],
)
def test_paths(resource: Resource, arguments: dict[str, str], path: str) -> None:
    assert resource.path(**arguments) == path


def test_names_of_resources() -> None:
    assert (PODS.api_version, PODS.qualified) == ("v1", "pods")
    assert (JOBS.api_version, JOBS.qualified) == ("batch/v1", "jobs.batch")
    known = [value for value in vars(objects).values() if isinstance(value, Resource)]
    assert len({resource.qualified for resource in known}) == len(known)
