from collections.abc import Mapping
from dataclasses import replace

import pytest

from gpuyard.agent.options.device_lists import PLAIN, DeviceList, Handover, suitable_lists
from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.agent.plugin.handover import hand_over
from gpuyard.agent.served import DEFAULT, MigStrategy, ServedDevice, Serving, serve
from gpuyard.devices.inventory import Backend, DeviceNode, Inventory, Mig, MigInstance
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_profiles import MigEngines
from gpuyard.kube.wellknown import AMD

SIMULATED = simulate(parse_simulation("V100:8"), seed="node")
COMMON = (DeviceNode("/dev/nvidiactl", "/run/driver/dev/nvidiactl"),)
REAL = replace(SIMULATED, backend=Backend.NVML, common_nodes=COMMON)
FIRST, SECOND = (gpu.uuid for gpu in REAL.devices[:2])


def devices(inventory: Inventory = REAL, serving: Serving = DEFAULT) -> Mapping[str, ServedDevice]:
    return {device.id: device for device in serve(inventory, serving).devices}


def by(*lists: DeviceList, by_index: bool = False) -> Handover:
    return Handover(frozenset(lists), by_index)


def test_real_gpus_come_with_the_common_nodes_and_without_the_mark() -> None:
    answer = hand_over(REAL, [devices()[FIRST]])
    assert "GPUYARD_SIMULATED" not in answer.envs
    assert [device.host_path for device in answer.devices] == ["/run/driver/dev/nvidiactl", "/dev/null"]


def test_without_a_cdi_spec_nothing_is_named_for_cdi() -> None:
    assert not hand_over(REAL, [devices()[FIRST]], PLAIN).cdi_devices
    with_cdi = Handover(suitable_lists(has_cdi=True, mounts_name_devices=False))
    both = [devices()[SECOND], devices()[FIRST]]
    named = hand_over(REAL, both, with_cdi).cdi_devices
    assert [device.name for device in named] == [f"gpuyard.io/gpu={uuid}" for uuid in (FIRST, SECOND)]


def test_names_by_mounts_take_the_place_of_the_variables() -> None:
    answer = hand_over(REAL, [devices()[FIRST]], by(DeviceList.VOLUME_MOUNTS))
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == "/var/run/nvidia-container-devices"
    assert [(mount.host_path, mount.container_path, mount.read_only) for mount in answer.mounts] == [
        ("/dev/null", f"/var/run/nvidia-container-devices/{FIRST}", True)
    ]
    assert not answer.devices and not answer.cdi_devices and not answer.annotations


def test_annotations_name_devices_for_cdi_where_kubelets_pass_no_names_on() -> None:
    one, other = (hand_over(REAL, [devices()[FIRST]], by(DeviceList.CDI_ANNOTATIONS)) for _ in range(2))
    ((key, value),) = one.annotations.items()
    assert key.startswith("cdi.k8s.io/gpuyard_") and value == f"gpuyard.io/gpu={FIRST}"
    assert not one.annotations.keys() & other.annotations.keys()
    assert "NVIDIA_VISIBLE_DEVICES" not in one.envs and one.envs["CUDA_VISIBLE_DEVICES"] == FIRST


def test_gpus_are_named_by_index_where_that_is_asked_for() -> None:
    answer = hand_over(REAL, devices().values(), by(DeviceList.ENVVAR, by_index=True))
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert answer.envs["CUDA_VISIBLE_DEVICES"].startswith(FIRST)


def test_a_mig_instance_comes_with_its_own_nodes_and_its_gpus() -> None:
    caps = tuple(
        DeviceNode(f"/dev/nvidia-caps/nvidia-cap{n}", f"/dev/nvidia-caps/nvidia-cap{n}") for n in (3, 4)
    )
    instance = MigInstance(1, "MIG-1", "1g.10gb", 7, 0, 0, 1, 1, 1, 9856, 16, MigEngines(), caps)
    split = replace(REAL.devices[1], mig=Mig(True, True, (instance,)))
    inventory = replace(REAL, devices=(REAL.devices[0], split))
    given = devices(inventory, Serving(MigStrategy.MIXED))["MIG-1"]
    answer = hand_over(inventory, [given], by(*DeviceList, by_index=True))
    assert [device.container_path for device in answer.devices] == [
        "/dev/nvidiactl",
        "/dev/nvidia1",
        "/dev/nvidia-caps/nvidia-cap3",
        "/dev/nvidia-caps/nvidia-cap4",
    ]
    assert answer.envs["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert [mount.container_path for mount in answer.mounts] == ["/var/run/nvidia-container-devices/1:1"]
    assert [device.name for device in answer.cdi_devices] == ["gpuyard.io/gpu=MIG-1"]


def test_two_shares_of_one_gpu_name_it_once() -> None:
    serving = Serving(sharing=(Sharing(SharingStrategy.TIME_SLICING, 2),))
    shares = [device for device in devices(REAL, serving).values() if device.gpu.index == 0]
    answer = hand_over(REAL, shares)
    assert len(shares) == 2 and answer.envs["NVIDIA_VISIBLE_DEVICES"] == FIRST
    assert answer.envs["GPUYARD_SHARES"] == f"{FIRST}::0,{FIRST}::1"
    assert "GPUYARD_SHARES" not in hand_over(REAL, [devices(REAL)[FIRST]]).envs
    assert [device.container_path for device in answer.devices] == ["/dev/nvidiactl", "/dev/nvidia0"]


@pytest.mark.parametrize(("has_cdi", "mounts"), [(False, False), (True, True)])
def test_what_suits_a_node(has_cdi: bool, mounts: bool) -> None:
    lists = suitable_lists(has_cdi=has_cdi, mounts_name_devices=mounts)
    assert (DeviceList.CDI_CRI in lists, DeviceList.VOLUME_MOUNTS in lists) == (has_cdi, mounts)
    assert DeviceList.DEVICE_SPECS in lists and (DeviceList.ENVVAR in lists) != mounts


@pytest.mark.parametrize("named", [DeviceList.ENVVAR, DeviceList.VOLUME_MOUNTS])
def test_others_gpus_are_not_named_to_nvidias_software(named: DeviceList) -> None:
    others = tuple(replace(gpu, vendor=AMD) for gpu in REAL.devices)
    amd = replace(REAL, backend=Backend.AMD, devices=others, common_nodes=())
    answer = hand_over(amd, [devices(amd)[FIRST]], by(named, DeviceList.CDI_CRI))
    assert ([name for name in answer.envs if "HIP" not in name], list(answer.mounts)) == ([], [])
    assert [device.name for device in answer.cdi_devices] == [f"gpuyard.io/gpu={FIRST}"]


def test_amds_gpus_are_named_to_rocm() -> None:
    inventory = simulate(parse_simulation("MI300X:4"), seed="node")
    chosen = [inventory.devices[2].uuid, inventory.devices[0].uuid]
    answer = hand_over(inventory, [devices(inventory)[uuid] for uuid in chosen])
    assert dict(answer.envs) == {
        "ROCR_VISIBLE_DEVICES": f"{chosen[1]},{chosen[0]}",
        "HIP_VISIBLE_DEVICES": "0,1",
        "GPUYARD_SIMULATED": "1",
    }
    paths = [device.container_path for device in answer.devices]
    assert paths == [
        "/dev/kfd",
        *(f"/dev/dri/{name}" for name in ("card0", "renderD128", "card2", "renderD130")),
    ]


def test_a_gpu_that_rocm_has_no_name_for_is_the_one_whose_nodes_are_there() -> None:
    inventory = simulate(parse_simulation("MI300X:1"), seed="node")
    part = replace(inventory.devices[0], uuid="GPU-99dd665d87e8bd00.1")
    split_up = replace(inventory, devices=(part,))
    assert "ROCR_VISIBLE_DEVICES" not in hand_over(split_up, devices(split_up).values()).envs
