from dataclasses import replace
from itertools import pairwise

import pytest

from gpuyard.devices.inventory import Device, Mig, MigInstance
from gpuyard.devices.readings import Reading
from gpuyard.devices.simulated.load import SimulatedLoad
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_profiles import MigEngines


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def gpus(text: str) -> tuple[Device, ...]:
    return simulate(parse_simulation(text), seed="node").devices


def part(uuid: str, start: int, size: int, memory_mib: int) -> MigInstance:
    engines = MigEngines(copy=1, decoder=1, encoder=0, jpeg=0, ofa=0)
    return MigInstance(start, uuid, "x", 1, 0, start, size, size, size, memory_mib, 16, engines)


def loaded(text: str, clock: Clock) -> tuple[SimulatedLoad, tuple[Device, ...]]:
    load, found = SimulatedLoad(clock), gpus(text)
    load.follow(found)
    return load, found


@pytest.mark.parametrize(
    ("model", "watts", "mib"),
    [("T4", 70, 15360), ("H100", 700, 81559), ("MI300X", 750, 196592), ("M60", 300, 7680)],
)
def test_a_busy_gpu_comes_near_what_its_board_can(clock: Clock, model: str, watts: int, mib: int) -> None:
    load, (gpu,) = loaded(f"{model}:1", clock)
    idle = load.readings()[gpu.uuid]
    assert (idle.utilisation_percent, idle.memory_used_mib) == (0, 0)
    assert idle.power_w == pytest.approx(watts * 0.11)
    load.set_busy([gpu.uuid])
    assert load.readings()[gpu.uuid].utilisation_percent == 0, "it doesn't jump"
    clock.now_s += 600
    busy = load.readings()[gpu.uuid]
    assert busy.power_w is not None
    assert 0.75 * watts < busy.power_w <= watts
    assert busy.utilisation_percent is not None
    assert 75 <= busy.utilisation_percent <= 100
    assert busy.temperature_c is not None
    assert busy.temperature_limit_c is not None
    assert 60 <= busy.temperature_c < busy.temperature_limit_c
    assert _memory_mib(busy) == mib


def _memory_mib(reading: Reading) -> int:
    parts = (reading.memory_used_mib, reading.memory_free_mib, reading.memory_reserved_mib)
    return sum(each or 0 for each in parts)


def test_what_is_busy_then_idle_cools_down(clock: Clock) -> None:
    load, (one, other) = loaded("H100:2", clock)
    load.set_busy([one.uuid])
    clock.now_s += 300
    assert load.readings()[other.uuid].utilisation_percent == 0
    load.set_busy([])
    clock.now_s += 300
    found = load.readings()[one.uuid]
    assert (found.utilisation_percent, found.memory_used_mib, found.temperature_c) == (0, 0, 31)


def test_gpus_swing_each_in_a_rhythm_of_its_own_and_the_same_each_time(clock: Clock) -> None:
    def figures() -> list[list[int | None]]:
        now_s = clock.now_s
        load, found = loaded("H100:4", clock)
        load.set_busy([gpu.uuid for gpu in found])
        clock.now_s += 300
        seen = []
        for _ in range(20):
            clock.now_s += 2
            seen.append([load.readings()[gpu.uuid].utilisation_percent for gpu in found])
        clock.now_s = now_s
        return seen

    seen = figures()
    assert seen == figures()
    assert any(len(set(row)) > 1 for row in seen)
    for before, after in pairwise(row[0] or 0 for row in seen):
        assert abs(after - before) <= 4, "it is smooth"


def test_energy_is_what_was_drawn_and_never_less(clock: Clock) -> None:
    load, (gpu,) = loaded("H100:1", clock)
    clock.now_s += 100
    assert load.readings()[gpu.uuid].energy_mj == pytest.approx(100 * 77 * 1000)
    clock.now_s -= 50
    assert load.readings()[gpu.uuid].energy_mj == pytest.approx(100 * 77 * 1000), "the clock went back"


def test_a_gpu_in_parts_is_as_busy_as_these_and_says_no_utilisation(clock: Clock) -> None:
    load, (gpu,) = loaded("H100:1", clock)
    parts = (part("MIG-a", 0, 4, 40448), part("MIG-b", 4, 4, 40448))
    load.follow((replace(gpu, mig=Mig(enabled=True, pending=True, instances=parts)),))
    load.set_busy(["MIG-b"])
    clock.now_s += 300
    found = load.readings()
    assert (found[gpu.uuid].utilisation_percent, found["MIG-a"].memory_used_mib) == (None, 0)
    assert found["MIG-b"].power_w is None
    used, whole = found["MIG-b"].memory_used_mib, found[gpu.uuid].memory_used_mib
    assert used is not None
    assert whole == pytest.approx(used, rel=0.02)
    assert 0.6 * 40448 < used < 0.8 * 40448
    load.follow((replace(gpu, mig=Mig()),))
    assert set(load.readings()) == {gpu.uuid}


@pytest.mark.parametrize(
    ("model", "has_gpm"), [("H200", True), ("B200", True), ("A100", False), ("MI300X", False)]
)
def test_gpus_from_hopper_on_say_how_busy_their_parts_are(clock: Clock, model: str, has_gpm: bool) -> None:
    load, (gpu,) = loaded(f"{model}:1", clock)
    load.set_busy([gpu.uuid])
    clock.now_s += 600
    found = load.readings()[gpu.uuid]
    assert (found.engine_active is not None) == has_gpm
    if has_gpm:
        parts = (found.sm_active, found.sm_occupancy, found.tensor_active, found.memory_active)
        assert all(0 < each < 1 for each in (found.engine_active, *parts) if each is not None)
        assert found.engine_active == pytest.approx((found.utilisation_percent or 0) / 100, abs=0.01)
        assert found.pcie_sent_bytes_per_s
        assert found.pcie_received_bytes_per_s
