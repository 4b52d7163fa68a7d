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
