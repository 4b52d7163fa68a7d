from __future__ import annotations

import pytest

from gpuyard.kube.objects import ObjectKey
from gpuyard.runs.notices import Notice
from gpuyard.runs.submitting.gang_fit import tell_gang
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot


@pytest.mark.parametrize(
    ("least", "then"),
    [
        (6, "None starts without the others"),
        (2, "It starts as soon as 2 of them fit"),
        (1, "It starts as soon as 1 of them fits"),
    ],
)
def test_without_room_it_says_with_how_many_pods_the_run_starts(least: int, then: str) -> None:
    said: list[Notice] = []
    request = PodRequest(ObjectKey("default", "a"), resources={"nvidia.com/gpu": 2})
    tell_gang(request, 6, Snapshot.of((), ()), "10m", said.append, least=least, all_or_none=True)
    assert [notice.text for notice in said] == [f"0 of 6 pods fit now. {then}"]
