"""Why there are as many as there are, in words and as an annotation."""

from __future__ import annotations

import pytest

from gpuyard.autoscaling.reason import ScalingReason
from gpuyard.kube.wellknown import ANNOTATION_SCALING


def annotated(text: str) -> dict[str, object]:
    return {"metadata": {"name": "web", "annotations": {ANNOTATION_SCALING: text}}}


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (ScalingReason(5, 5, "m", "19 in flight, target 4 each"), "wants 5: 19 in flight, target 4 each"),
        (
            ScalingReason(12, 8, "m", "45 in flight, target 4 each", "at most 8 replicas are allowed"),
            "wants 12: 45 in flight, target 4 each; 8 for now, since at most 8 replicas are allowed",
        ),
        (ScalingReason(None, 3, numbers="nobody counts"), "stays at 3: nobody counts"),
    ],
)
def test_it_is_said_and_read_again(reason: ScalingReason, sentence: str) -> None:
    assert reason.sentence == sentence
    assert ScalingReason.read(annotated(reason.to_text())) == reason


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"wanted": "many", "replicas": 1}', "null"])
def test_what_somebody_else_wrote_there_is_none(text: str) -> None:
    assert ScalingReason.read(annotated(text)) is None
    assert ScalingReason.read({"metadata": {"name": "web"}}) is None
