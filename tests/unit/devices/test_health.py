from datetime import UTC, datetime

from gpuyard.devices.health import GpuState, HealthTracker
from gpuyard.devices.inventory import Health

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def tracker() -> HealthTracker:
    return HealthTracker(30, lambda: NOON)


def test_a_fault_during_recovery_starts_the_quiet_time_again() -> None:
    health = tracker()
    health.fault("a", "XID 48", 0)
    health.fault("a", "XID 48", 20)
    health.probed("a", GpuState(), 40)
    assert health.unhealthy == {"a": Health("XID 48", NOON)}
    health.probed("a", GpuState(), 50)
    assert health.unhealthy == {}


def test_the_first_of_several_xids_is_the_reason() -> None:
    health = tracker()
    health.probed("a", GpuState(fault="lost"), 0)
    health.fault("a", "XID 79", 1)
    health.fault("a", "XID 154", 2)
    health.probed("a", GpuState(fault="lost"), 5)
    assert health.unhealthy["a"].reason == "XID 79"


def test_a_gpu_that_says_it_is_broken_is_unhealthy_without_an_event() -> None:
    health = tracker()
    health.probed("a", GpuState(fault="row remap failed"), 0)
    health.probed("b", GpuState(pending="row remap pending"), 0)
    assert health.unhealthy == {"a": Health("row remap failed", NOON)}


def test_the_reason_of_a_gpu_without_an_event_is_what_it_says_now() -> None:
    health = tracker()
    health.gone(["a"], 0)
    health.probed("a", GpuState(fault="lost"), 5)
    assert health.unhealthy == {"a": Health("lost", NOON)}
    health.probed("a", GpuState(fault="too hot"), 10)
    assert health.unhealthy == {"a": Health("too hot", NOON)}


def test_what_comes_after_an_event_is_past_is_the_reason() -> None:
    health = tracker()
    health.fault("a", "XID 63", 0)
    health.probed("a", GpuState(pending="row remap pending"), 30)
    health.probed("a", GpuState(fault="lost"), 35)
    assert health.unhealthy["a"].reason == "lost"
