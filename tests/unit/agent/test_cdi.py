from dataclasses import replace

from gpuyard.agent.cdi import cdi_spec, qualified_name
from gpuyard.devices.inventory import Backend, DeviceNode, Inventory
from gpuyard.devices.simulated import parse_simulation, simulate

INVENTORY = simulate(parse_simulation("H100:2"), seed="node")
UUIDS = [gpu.uuid for gpu in INVENTORY.devices]


def nodes_by_name(inventory: Inventory) -> dict[str, list[str]]:
    devices = cdi_spec(inventory)["devices"]
    return {d["name"]: [n["path"] for n in d["containerEdits"]["deviceNodes"]] for d in devices}


def test_each_gpu_is_found_by_index_and_uuid_and_all_by_all() -> None:
    both = ["/dev/nvidia0", "/dev/nvidia1"]
    first, second = UUIDS
    assert nodes_by_name(INVENTORY) == {
        "0": both[:1], first: both[:1], "1": both[1:], second: both[1:], "all": both,
    }  # fmt: skip


def test_a_simulated_gpu_is_dev_null_and_says_so() -> None:
    spec = cdi_spec(INVENTORY)
    assert spec["cdiVersion"] == "0.5.0"
    assert spec["kind"] == "gpuyard.io/gpu"
    assert spec["devices"][0]["containerEdits"]["deviceNodes"] == [
        {"path": "/dev/nvidia0", "hostPath": "/dev/null", "permissions": "rw"}
    ]
    assert spec["containerEdits"] == {"env": ["NVIDIA_VISIBLE_DEVICES=void", "GPUYARD_SIMULATED=1"]}


def test_real_gpus_come_with_the_common_nodes_and_without_the_mark() -> None:
    common = (DeviceNode("/dev/nvidiactl", "/run/driver/dev/nvidiactl"),)
    edits = cdi_spec(replace(INVENTORY, backend=Backend.NVML, common_nodes=common))["containerEdits"]
    assert edits["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert edits["deviceNodes"] == [
        {"path": "/dev/nvidiactl", "hostPath": "/run/driver/dev/nvidiactl", "permissions": "rw"}
    ]


def test_the_name_is_fully_qualified() -> None:
    assert qualified_name(INVENTORY.devices[0]) == f"gpuyard.io/gpu={UUIDS[0]}"
