import pytest

from gpuyard.devices.inventory import Device, DeviceNode, MigInstance
from gpuyard.devices.simulated.mig import split
from gpuyard.devices.simulated.simulation import parse_simulation, simulate


def made(model: str) -> Device:
    return simulate(parse_simulation(f"{model}:2"), seed="node").devices[1]


def parts(model: str, *texts: object) -> tuple[MigInstance, ...]:
    mig, mistakes = split(made(model), texts)
    assert mistakes == ()
    return mig.instances


def test_instances_are_numbered_as_the_driver_numbers_them() -> None:
    found = parts("H100", "1g.10gb@3", "3g.40gb@4", "1g.10gb@0")
    assert [(each.index, each.profile, each.gi_id, each.ci_id) for each in found] == [
        (0, "3g.40gb", 2, 0),
        (1, "1g.10gb", 7, 0),
        (2, "1g.10gb", 10, 0),
    ]
    assert [each.gi_id for each in parts("A30", *(f"1g.6gb@{start}" for start in range(4)))] == [3, 4, 5, 6]
    # /proc/driver/nvidia-caps/mig-minors: gpu1/gi2/access 156, gpu1/gi2/ci0/access 157.
    assert found[0].nodes == (
        DeviceNode("/dev/nvidia-caps/nvidia-cap156", "/dev/null"),
        DeviceNode("/dev/nvidia-caps/nvidia-cap157", "/dev/null"),
    )


def test_ids_are_stable_and_differ_between_places_and_gpus() -> None:
    first, second = parts("H100", "3g.40gb@0", "3g.40gb@4")
    assert parts("H100", "3g.40gb@4")[0].uuid == second.uuid
    assert first.uuid != second.uuid
    assert first.uuid.startswith("MIG-")
    other = simulate(parse_simulation("H100:2"), seed="other").devices[1]
    assert split(other, ["3g.40gb@0"])[0].instances[0].uuid != first.uuid


def test_compute_instances_share_their_gpu_instance() -> None:
    one, two = parts("H100", "1c.3g.40gb@4", "2c.3g.40gb@4")
    assert (one.profile, one.gi_id, one.ci_id, one.gi_slices, one.ci_slices) == ("1c.3g.40gb", 2, 0, 3, 1)
    assert (two.profile, two.gi_id, two.ci_id, two.gi_slices, two.ci_slices) == ("2c.3g.40gb", 2, 1, 3, 2)
    assert (one.memory_mib, one.multiprocessors, two.multiprocessors) == (40448, 20, 40)
    assert one.nodes[0] == two.nodes[0]
    assert one.nodes[1] != two.nodes[1]
    assert one.uuid != two.uuid


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("3g.40gb@0", "3g.40gb@0 is in the way"),
        ("1c.3g.40gb@0", "3g.40gb@0 is in the way"),
        ("4g.40gb@4", "4g.40gb can only begin at slice 0"),
        ("5c.7g.80gb@0", "no part of 7g.80gb has 5 compute slices"),
        ("1g.5gb@6", "there is 1g.10gb, 1g.10gb+me, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb"),
        ("1g.10gb", "write where it begins, as in 1g.10gb@0"),
        ("1g.10gb@²", "write where it begins, as in 1g.10gb@0"),
        (7, "there is 1g.10gb"),
    ],
)
def test_what_is_impossible_is_told_and_left_out(part: object, why: str) -> None:
    mig, mistakes = split(made("H100"), ["3g.40gb@0", part, "1g.10gb@6"])
    assert [each.profile for each in mig.instances] == ["3g.40gb", "1g.10gb"]
    assert len(mistakes) == 1
    assert why in mistakes[0]
