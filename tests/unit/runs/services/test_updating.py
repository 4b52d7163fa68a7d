"""What of a Deployment stays when it is rendered anew."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import ANNOTATION_COMMAND, ANNOTATION_SNAPSHOT, ANNOTATION_STOPPED_AT, LABEL_RUN
from gpuyard.runs.services.updating import renewed
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, ServiceSpec

TARGET = LoadTarget(Measure.INFLIGHT, Decimal(4))


def live(replicas: int, annotations: dict[str, str]) -> Manifest:
    return {
        "metadata": {
            "name": "digits",
            "uid": "u",
            "resourceVersion": "7",
            "labels": {LABEL_RUN: "digits", "team": "a"},
            "annotations": annotations,
        },
        "spec": {"replicas": replicas, "template": "old", "paused": True},
        "status": {"replicas": replicas},
    }


def wanted(replicas: int = 1) -> Manifest:
    return {
        "metadata": {"labels": {LABEL_RUN: "digits"}, "annotations": {ANNOTATION_COMMAND: "new.py"}},
        "spec": {"replicas": replicas, "template": "new"},
    }


def test_others_labels_and_annotations_stay_and_ours_are_new() -> None:
    before = live(3, {"deployment.kubernetes.io/revision": "4", ANNOTATION_SNAPSHOT: "x", "note": "n"})
    after = renewed(before, wanted(2), ServiceSpec(80, 2, 2))
    assert after["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "4",
        "note": "n",
        ANNOTATION_COMMAND: "new.py",
    }
    assert after["metadata"]["labels"] == {LABEL_RUN: "digits", "team": "a"}
    assert (after["metadata"]["uid"], after["metadata"]["resourceVersion"]) == ("u", "7")
    # Somebody's pause would hold the update up for ever.
    assert after["spec"] == {"replicas": 2, "template": "new"}


@pytest.mark.parametrize(
    ("had", "zero", "marks", "expected"),
    [
        (5, False, {}, 5),
        (9, False, {}, 8),
        (1, False, {}, 2),
        (0, True, {}, 0),
        (0, True, {ANNOTATION_STOPPED_AT: "t"}, 2),
    ],
)
def test_what_the_load_decided_stays_within_the_range(
    had: int, zero: bool, marks: dict[str, str], expected: int
) -> None:
    to_zero: Any = timedelta(minutes=5) if zero else None
    service = ServiceSpec(80, 2, 8, target=TARGET, scale_to_zero=to_zero)
    after = renewed(live(had, marks), wanted(2), service)
    assert after["spec"]["replicas"] == expected
    assert ANNOTATION_STOPPED_AT not in after["metadata"]["annotations"]
