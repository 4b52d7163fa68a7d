from datetime import UTC, datetime

from gpuyard.devices.inventory import HEALTHY, Backend, Device, Health, Inventory, Mig, MigInstance
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
