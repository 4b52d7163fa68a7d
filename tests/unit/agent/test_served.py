from dataclasses import replace

import pytest

from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.agent.served import MigStrategy, ModelNames, Served, ServedDevice, Serving, serve
from gpuyard.devices.inventory import Backend, Device, DeviceNode, Health, Inventory, Mig, MigInstance
from gpuyard.gpus.mig_profiles import MigEngines
from gpuyard.kube.wellknown import AMD


def gpu(index: int, *profiles: str, split: bool | None = True) -> Device:
    """A GPU with these parts; `split` None for one that can't be."""
    parts = tuple(part(index, place, profile) for place, profile in enumerate(profiles))
    nodes = (DeviceNode(f"/dev/nvidia{index}", f"/dev/nvidia{index}"),)
    mig = None if split is None else Mig(split, split, parts)
    return Device(
        index, f"GPU-{index}", "H100", "H100", 81559, (9, 0), f"0000:{index}0:00.0", 0, index, nodes, mig=mig
    )


def part(of: int, place: int, profile: str) -> MigInstance:
    slices = int(profile.split("g.")[0].split("c.")[-1])
    compute = int(profile.split("c.")[0]) if "c." in profile else slices
    nodes = tuple(DeviceNode(path, path) for path in (f"/dev/nvidia-caps/nvidia-cap{place * 2 + 1}",))
    return MigInstance(
        place,
        f"MIG-{of}-{place}",
        profile,
        place,
        0,
        place,
        1,
        slices,
        compute,
        9856,
        16,
        MigEngines(),
        nodes,
    )


def node(*gpus: Device) -> Inventory:
    return Inventory(Backend.NVML, devices=gpus)


def offered(served: Served) -> dict[str, list[str]]:
    return {resource: [device.id for device in devices] for resource, devices in served.resources.items()}


def mixed(*gpus: Device) -> Served:
    return serve(node(*gpus), Serving(MigStrategy.MIXED))


def single(*gpus: Device) -> Served:
    return serve(node(*gpus), Serving(MigStrategy.SINGLE))


def test_without_a_strategy_every_gpu_is_whole() -> None:
    served = serve(node(gpu(0, "1g.10gb"), gpu(1, split=None)))
    assert offered(served) == {"nvidia.com/gpu": ["GPU-0", "GPU-1"]}
    assert served.faults == ()


def test_a_yard_offers_no_split_gpu_whole() -> None:
    served = serve(
        node(gpu(0, "1g.10gb"), gpu(1, split=None), gpu(2, split=False)), Serving(split_whole=False)
    )
    assert offered(served) == {"nvidia.com/gpu": ["GPU-1", "GPU-2"]}
    assert served.detail == (
        "GPU 0 is split, and its parts aren't offered: use the MIG strategy mixed, or make it whole"
    )


def test_amds_gpus_have_amds_resource() -> None:
    inventory = node(replace(gpu(0, split=None), vendor=AMD))
    assert offered(serve(inventory)) == {"amd.com/gpu": ["GPU-0"]}


def test_mixed_has_a_resource_for_each_profile_beside_whole_gpus() -> None:
    served = mixed(gpu(0, "3g.40gb", "1g.10gb", "1g.10gb+me"), gpu(1, "1g.10gb"), gpu(2, split=False))
    assert offered(served) == {
        "nvidia.com/gpu": ["GPU-2"],
        "nvidia.com/mig-1g.10gb": ["MIG-0-1", "MIG-1-0"],
        "nvidia.com/mig-1g.10gb.me": ["MIG-0-2"],
        "nvidia.com/mig-3g.40gb": ["MIG-0-0"],
    }
    assert served.faults == ()


def test_mixed_leaves_out_what_has_not_all_of_its_gpu_instance_and_says_so() -> None:
    served = mixed(gpu(0, "1c.3g.40gb", "3g.40gb"), gpu(1))
    assert offered(served) == {"nvidia.com/mig-3g.40gb": ["MIG-0-1"]}
    assert [str(fault) for fault in served.faults] == [
        "GPU 0 has 1c.3g.40gb, with 1 of 3 compute slices of its GPU instance: only instances with all of "
        "them can be had",
        "GPU 1 has MIG enabled and no instances: nothing of it can be had",
    ]


def test_single_offers_parts_as_gpus() -> None:
    served = single(gpu(0, "3g.40gb", "3g.40gb"), gpu(1, "3g.40gb"))
    assert offered(served) == {"nvidia.com/gpu": ["MIG-0-0", "MIG-0-1", "MIG-1-0"]}
    assert offered(single(gpu(0, split=False), gpu(1, split=None))) == {"nvidia.com/gpu": ["GPU-0", "GPU-1"]}


def test_single_is_about_nvidias_gpus() -> None:
    served = single(gpu(0, "3g.40gb"), replace(gpu(1, split=None), vendor=AMD))
    assert offered(served) == {"amd.com/gpu": ["GPU-1"], "nvidia.com/gpu": ["MIG-0-0"]}
    assert served.faults == ()


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        (
            (gpu(0, "3g.40gb"), gpu(1, split=False)),
            "GPU 1 is whole, and with the MIG strategy single all GPUs must be split",
        ),
        (
            (gpu(0, "3g.40gb"), gpu(1)),
            "GPU 1 has MIG enabled and no instances, which the MIG strategy single needs",
        ),
        (
            (gpu(0, "3g.40gb"), gpu(1, "3g.40gb", "1g.10gb", "1g.10gb")),
            "GPU 1 has 1g.10gb where others are 3g.40gb, and the MIG strategy single needs all alike: use "
            "mixed, or split all of them alike",
        ),
        (
            (gpu(0, "1c.3g.40gb"),),
            "GPU 0 has 1c.3g.40gb, with 1 of 3 compute slices of its GPU instance: only instances with all "
            "of them can be had",
        ),
    ],
)
def test_single_offers_nothing_of_gpus_that_are_not_split_alike(
    gpus: tuple[Device, ...], reason: str
) -> None:
    served = single(*gpus)
    assert offered(served) == {}
    assert [str(fault) for fault in served.faults] == [reason]
    assert served.detail == reason


def test_a_part_comes_with_its_gpu_and_is_as_healthy_as_that() -> None:
    (served,) = mixed(gpu(3, "1g.10gb")).devices
    assert [node.path for node in served.nodes] == ["/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap1"]
    assert served.uuid == "MIG-3-0" and served.health.ok
    lost = Health("lost")
    assert replace(served, gpu=replace(served.gpu, health=lost)).health == lost
    assert served.instance is not None
    sick = Health("XID 94")
    assert replace(served, instance=replace(served.instance, health=sick)).health == sick


def test_what_it_is_made_of_says_why_there_is_nothing() -> None:
    assert serve(Inventory(Backend.NONE, detail="no driver")).detail == "no driver"


def test_a_replica_keeps_its_gpus_place() -> None:
    device = ServedDevice("GPU-0::2", "nvidia.com/gpu", gpu(0, split=None), replica=2)
    assert device.order == (0, -1, 2)


SLICED = Sharing(SharingStrategy.TIME_SLICING, 3, devices=("1",))


def test_chosen_gpus_are_shared_and_the_others_are_not() -> None:
    inventory = node(gpu(0, split=None), gpu(1, split=None))
    served = serve(inventory, Serving(sharing=(SLICED,)))
    assert offered(served) == {"nvidia.com/gpu": ["GPU-0", "GPU-1::0", "GPU-1::1", "GPU-1::2"]}
    assert [device.uuid for device in served.devices] == ["GPU-0", "GPU-1", "GPU-1", "GPU-1"]
    renamed = serve(inventory, Serving(sharing=(replace(SLICED, renamed="nvidia.com/gpu.shared"),)))
    assert offered(renamed) == {
        "nvidia.com/gpu": ["GPU-0"],
        "nvidia.com/gpu.shared": ["GPU-1::0", "GPU-1::1", "GPU-1::2"],
    }


def test_the_first_rule_about_a_device_counts_and_parts_are_shared_too() -> None:
    rules = (
        Sharing(SharingStrategy.TIME_SLICING, 2, "nvidia.com/mig-1g.10gb", devices=("0:1",)),
        Sharing(SharingStrategy.TIME_SLICING, 4, "nvidia.com/mig-1g.10gb", devices=("0:1",)),
    )
    served = serve(node(gpu(0, "1g.10gb", "1g.10gb")), Serving(MigStrategy.MIXED, rules))
    assert offered(served) == {"nvidia.com/mig-1g.10gb": ["MIG-0-0", "MIG-0-1::0", "MIG-0-1::1"]}


def test_every_replica_and_part_of_a_failed_gpu_is_unhealthy() -> None:
    inventory = node(gpu(0, "1g.10gb", "1g.10gb"), gpu(1, split=None)).with_health({"GPU-0": Health("lost")})
    rule = Sharing(SharingStrategy.TIME_SLICING, 2, "nvidia.com/mig-1g.10gb")
    served = serve(inventory, Serving(MigStrategy.MIXED, (rule,)))
    assert {device.id: device.health.ok for device in served.devices} == {
        "GPU-1": True,
        **{f"MIG-0-{place}::{replica}": False for place in (0, 1) for replica in (0, 1)},
    }


def test_what_mps_can_not_share_is_one_containers_alone_and_the_reason_is_said() -> None:
    rule = Sharing(SharingStrategy.MPS, 2, "nvidia.com/mig-1g.10gb")
    served = serve(node(gpu(0, "1g.10gb")), Serving(MigStrategy.MIXED, (rule,)))
    assert offered(served) == {"nvidia.com/mig-1g.10gb": ["MIG-0-0"]}
    (fault,) = served.faults
    assert str(fault) == "GPU 0 is split, and MPS shares whole GPUs only: it is one container's alone"


def test_gpus_are_offered_by_their_model() -> None:
    inventory = node(gpu(0, split=None), replace(gpu(1, split=None), model=""), gpu(2, "1g.10gb"))
    instead = serve(inventory, Serving(MigStrategy.MIXED, model_names=ModelNames.INSTEAD))
    assert offered(instead) == {
        "nvidia.com/gpu": ["GPU-1"],
        "nvidia.com/h100": ["GPU-0"],
        "nvidia.com/mig-1g.10gb": ["MIG-2-0"],
    }
    shared = serve(node(gpu(1, split=None)), Serving(sharing=(SLICED,), model_names=ModelNames.INSTEAD))
    assert set(offered(shared)) == {"nvidia.com/gpu"}
