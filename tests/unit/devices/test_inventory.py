from dataclasses import replace
from datetime import UTC, datetime

from gpuyard.devices.inventory import HEALTHY, Backend, Device, Health, Inventory, Link, Mig, MigInstance
from gpuyard.gpus.mig_profiles import MigEngines

SICK = Health("XID 79", datetime(2026, 11, 1, tzinfo=UTC))


def part(uuid: str) -> MigInstance:
    return MigInstance(0, uuid, "3g.40gb", 1, 0, 0, 4, 3, 3, 40448, 60, MigEngines(copy=3))


def split(uuid: str, *parts: str) -> Device:
    mig = Mig(enabled=True, pending=True, instances=tuple(map(part, parts)))
    return Device(0, uuid, "", "", 0, (0, 0), "", None, 0, (), mig=mig)


def health_of_parts(gpu: Device) -> list[Health]:
    return [each.health for each in gpu.mig.instances] if gpu.mig else []


def test_a_gpu_s_fault_is_one_of_all_its_parts() -> None:
    node = Inventory(
        Backend.NVML, devices=(split("GPU-0", "MIG-0", "MIG-1"), split("GPU-1", "MIG-2", "MIG-3"))
    )
    first, second = node.with_health({"GPU-0": SICK, "MIG-3": SICK}).devices
    assert first.health == SICK
    assert health_of_parts(first) == [SICK, SICK]
    assert second.health == HEALTHY
    assert health_of_parts(second) == [HEALTHY, SICK]
    assert node.with_health({"GPU-0": SICK}).with_health({}) == node


def node_of(*uuids: str) -> Inventory:
    """As a driver that counts what it finds."""
    gpus = tuple(replace(split(uuid), index=index) for index, uuid in enumerate(uuids))
    links = {(one, other): Link(nvlinks=4) for one in uuids for other in uuids if one < other}
    return Inventory(Backend.NVML, devices=gpus, links=links)


def numbers(inventory: Inventory) -> list[tuple[int, str]]:
    return [(gpu.index, gpu.uuid) for gpu in inventory.devices]


def test_a_gpu_that_is_gone_stays_the_nodes_and_the_others_keep_their_indexes() -> None:
    known = node_of("a", "b", "c", "d")
    after = node_of("a", "c", "d").after(known)
    assert numbers(after) == numbers(known)
    assert after.link("b", "c").nvlinks == 4
    assert numbers(node_of("d", "c", "b", "a").after(known)) == numbers(known)


def test_a_new_gpu_takes_no_known_ones_index() -> None:
    known = node_of("a", "b")
    assert numbers(node_of("x", "b", "y").after(known)) == [(0, "a"), (1, "b"), (2, "x"), (3, "y")]
    # One that could not be read before has its place still.
    some = replace(known, devices=known.devices[1:])
    assert numbers(known.after(some)) == [(0, "a"), (1, "b")]
