from hypothesis import given
from hypothesis import strategies as st

from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName, UseLedger
from gpuyard.devices.readings import Reading
from gpuyard.gpus.use import GpuUse

POD, OTHER = PodName("default", "train-0"), PodName("team", "web")
A, B = HeldDevice("GPU-a", "GPU-a"), HeldDevice("GPU-b", "GPU-b")


def reading(percent: int, *, energy_mj: int | None = None, power_w: float | None = None) -> Reading:
    return Reading(utilisation_percent=percent, memory_used_mib=1024, energy_mj=energy_mj, power_w=power_w)


def used(ledger: UseLedger, name: PodName = POD) -> GpuUse:
    return next(pod.use for pod in ledger.pods if pod.name == name)


def test_time_energy_and_load_between_looks() -> None:
    ledger = UseLedger()
    for at_s, percent, energy_mj in ((100.0, 0, 5_000), (102.0, 100, 7_000), (104.0, 50, 8_000)):
        ledger.note(at_s, {POD: {A}}, {"GPU-a": reading(percent, energy_mj=energy_mj)})
    assert used(ledger) == GpuUse(1, 4, 4, 3, 100, 4, 4 * 1024, 1024, 4, 3)


def test_several_gpus_are_held_at_the_same_time() -> None:
    ledger = UseLedger()
    for at_s in (0.0, 10.0, 20.0):
        ledger.note(at_s, {POD: {A, B}}, {"GPU-a": reading(100), "GPU-b": reading(0)})
    assert (used(ledger).gpus, used(ledger).held_s, used(ledger).mean_percent) == (2, 20, 50)


def test_without_a_counter_power_counts() -> None:
    ledger = UseLedger()
    for at_s in (0.0, 10.0):
        ledger.note(at_s, {POD: {A}}, {"GPU-a": reading(0, power_w=300.0)})
    assert used(ledger).energy_j == 3000


def test_a_counter_that_began_anew_takes_nothing_away() -> None:
    ledger = UseLedger()
    for at_s, energy_mj in ((0.0, 9_000_000), (2.0, 100), (4.0, 1_100)):
        ledger.note(at_s, {POD: {A}}, {"GPU-a": reading(0, energy_mj=energy_mj, power_w=10.0)})
    assert used(ledger).energy_j == 2 * 10 + 1


def test_a_long_gap_is_held_and_not_measured() -> None:
    ledger = UseLedger()
    for at_s, energy_mj in ((0.0, 0), (3600.0, 3_600_000)):
        ledger.note(at_s, {POD: {A}}, {"GPU-a": reading(100, energy_mj=energy_mj)})
    use = used(ledger)
    assert (use.gpu_s, use.measured_gpu_s, use.energy_j) == (3600, 0, 3600)


def test_a_clock_that_goes_back_adds_nothing() -> None:
    ledger = UseLedger()
    for at_s in (10.0, 5.0):
        ledger.note(at_s, {POD: {A}}, {"GPU-a": reading(100, power_w=100.0)})
    assert used(ledger) == GpuUse(gpus=1)


def test_what_is_shared_is_nobody_s_own() -> None:
    ledger = UseLedger()
    shares = {POD: {HeldDevice("GPU-a::0", "GPU-a", True)}, OTHER: {HeldDevice("GPU-a::1", "GPU-a", True)}}
    for at_s in (0.0, 10.0):
        ledger.note(at_s, shares, {"GPU-a": reading(100, energy_mj=int(at_s) * 1000)})
    assert used(ledger) == used(ledger, OTHER) == GpuUse(gpus=1, gpu_s=10)


def test_a_gpu_that_does_not_answer_is_held_all_the_same() -> None:
    ledger = UseLedger()
    for at_s in (0.0, 10.0):
        ledger.note(at_s, {POD: {A}}, {})
    assert used(ledger) == GpuUse(gpus=1, gpu_s=10)


def test_another_pod_of_the_same_name_is_another() -> None:
    ledger = UseLedger()
    for at_s, held in ((0.0, {POD: {A}}), (2.0, {POD: {A}}), (4.0, {}), (6.0, {POD: {B}}), (8.0, {POD: {B}})):
        ledger.note(at_s, held, {})
    first, second = ledger.pods
    assert (first.has_ended, first.use.gpu_s) == (True, 2)
    assert (second.has_ended, second.use.gpu_s) == (False, 2)
    assert first.id != second.id


def test_those_that_have_ended_are_not_kept_for_ever() -> None:
    ledger = UseLedger()
    for number in range(1000):
        ledger.note(float(number), {PodName("default", f"pod-{number}"): {A}}, {})
    assert len(ledger.pods) == 257


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sets(st.sampled_from([A, B])), st.integers(0, 100)), max_size=30)
)
def test_nothing_is_used_that_was_not_there(steps: list[tuple[float, set[HeldDevice], int]]) -> None:
    """However pods come and go: no more than all GPUs all the time, and than their counters counted."""
    ledger, at_s, energy_mj = UseLedger(), 0.0, 0
    for seconds, held, percent in steps:
        at_s, energy_mj = at_s + seconds, energy_mj + int(seconds * 1000)
        readings = {uuid: reading(percent, energy_mj=energy_mj) for uuid in ("GPU-a", "GPU-b")}
        ledger.note(at_s, {POD: held, OTHER: {A, B} - held}, readings)
    total = GpuUse()
    for pod in ledger.pods:
        total = total.beside(pod.use)
        assert 0 <= pod.use.busy_gpu_s <= pod.use.measured_gpu_s + 1e-6
        assert pod.use.measured_gpu_s <= pod.use.gpu_s + 1e-6
    assert total.gpu_s <= 2 * at_s + 1e-6
    assert total.energy_j <= 2 * energy_mj / 1000 + 1e-6
