from __future__ import annotations

from gpuyard.local.kubelet.pods.lifecycle import Sparing


def test_what_goes_on_for_long_is_told_now_and_then() -> None:
    now_s = 0.0
    sparing = Sparing(lambda: now_s)
    assert [sparing.allows() for _ in range(12)] == [True] * 10 + [False] * 2
    now_s = 9.9
    assert not sparing.allows()
    told = 0
    for _ in range(100):
        now_s += 1.0
        told += sparing.allows()
    assert told == 10
