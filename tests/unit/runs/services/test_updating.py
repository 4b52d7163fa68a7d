"""What of a Deployment stays when it is rendered anew."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import (
    ANNOTATION_COMMAND,
    ANNOTATION_RESTARTED_AT,
    ANNOTATION_SNAPSHOT,
    ANNOTATION_SPEC,
    ANNOTATION_STOPPED_AT,
    LABEL_RUN,
)
from gpuyard.runs.services.updating import renewed
from gpuyard.workloads.spec.service.stored import StoredSpec
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, ServiceSpec

TARGET = LoadTarget(Measure.INFLIGHT, Decimal(4))
NOW = "2026-01-31T12:00:00Z"
OLD: dict[str, Any] = {"metadata": {"labels": {LABEL_RUN: "digits"}}, "spec": {"containers": ["old"]}}
NEW: dict[str, Any] = {"metadata": {"labels": {LABEL_RUN: "digits"}}, "spec": {"containers": ["new"]}}


def live(replicas: int, annotations: dict[str, str]) -> Manifest:
    return {
        "metadata": {
            "name": "digits",
            "uid": "u",
            "resourceVersion": "7",
            "labels": {LABEL_RUN: "digits", "team": "a"},
            "annotations": annotations,
        },
        "spec": {"replicas": replicas, "template": OLD, "paused": True},
        "status": {"replicas": replicas},
    }


def wanted(replicas: int = 1) -> Manifest:
    return {
        "metadata": {"labels": {LABEL_RUN: "digits"}, "annotations": {ANNOTATION_COMMAND: "new.py"}},
        "spec": {"replicas": replicas, "template": NEW},
    }


def test_others_labels_and_annotations_stay_and_ours_are_new() -> None:
    before = live(3, {"deployment.kubernetes.io/revision": "4", ANNOTATION_SNAPSHOT: "x", "note": "n"})
    after = renewed(before, wanted(2), ServiceSpec(80, 2, 2), NOW)
    assert after["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "4",
        "note": "n",
        ANNOTATION_COMMAND: "new.py",
    }
    assert after["metadata"]["labels"] == {LABEL_RUN: "digits", "team": "a"}
    assert (after["metadata"]["uid"], after["metadata"]["resourceVersion"]) == ("u", "7")
    # Somebody's pause would hold the update up for ever.
    assert after["spec"] == {"replicas": 2, "template": NEW}


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
    after = renewed(live(had, marks), wanted(2), service, NOW)
    assert after["spec"]["replicas"] == expected
    assert ANNOTATION_STOPPED_AT not in after["metadata"]["annotations"]


def made_of(run: str, **more: str) -> dict[str, str]:
    spec = {**more, "run": run, "service": {"port": "80"}}
    return {ANNOTATION_SPEC: StoredSpec(json.dumps(spec), "/work").annotation}


def restarted(deployment: Manifest) -> str | None:
    found: dict[str, str] = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return found.get(ANNOTATION_RESTARTED_AT)


def test_an_update_without_a_change_replaces_the_replicas() -> None:
    """Their files, or the image behind a tag, may be others by now."""
    same = wanted() | {"metadata": wanted()["metadata"] | {"annotations": made_of("a.py", name="digits")}}
    service = ServiceSpec(80, 1, 1)
    again = renewed(live(1, made_of("a.py")), same, service, NOW)
    assert restarted(again) == NOW
    # The next change keeps the mark: without it the template would be another one for nothing.
    other = renewed(live(1, made_of("b.py")) | {"spec": again["spec"]}, same, service, "later")
    assert restarted(other) == NOW
    assert restarted(renewed(live(1, made_of("b.py")), same, service, NOW)) is None
