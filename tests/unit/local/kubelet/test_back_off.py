"""Delays between tries."""

from __future__ import annotations

from gpuyard.local.kubelet.back_off import BackOff


def test_back_off_doubles_from_ten_seconds_to_five_minutes() -> None:
    back_off = BackOff()
    assert [back_off.delay_s(n) for n in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert back_off.delay_s(10**6) == 300
