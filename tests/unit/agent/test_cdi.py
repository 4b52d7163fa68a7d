import os
from dataclasses import replace
from typing import Any

from gpuyard.agent.cdi import cdi_spec, qualified_name
from gpuyard.devices.backend import combine
from gpuyard.devices.inventory import Backend, DeviceNode, Inventory
from gpuyard.devices.nvml.driver_files import DriverFile
from gpuyard.devices.simulated.mig import split
from gpuyard.devices.simulated.simulation import parse_simulation, simulate

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


def test_a_device_has_nodes_as_a_runtime_takes_no_spec_with_one_that_has_none() -> None:
    """containerd resolved no device of such a spec (cncf-tags, pkg/cdi/device.go: "empty device edits")."""
    first, second = INVENTORY.devices
    bare = replace(INVENTORY, devices=(replace(first, nodes=()), second))
    assert nodes_by_name(bare) == {name: ["/dev/nvidia1"] for name in ("1", second.uuid, "all")}
    wsl = replace(
        INVENTORY,
        devices=tuple(replace(gpu, nodes=()) for gpu in INVENTORY.devices),
        common_nodes=(DeviceNode("/dev/dxg", "/dev/dxg"),),
    )
    assert nodes_by_name(wsl) == {name: ["/dev/dxg"] for name in ("0", *UUIDS, "1", "all")}


def test_the_driver_of_nvidias_goes_to_nvidias_gpus_alone() -> None:
    amd = simulate(parse_simulation("MI300X:1"), seed="node")
    both = combine([replace(INVENTORY, backend=Backend.NVML), replace(amd, backend=Backend.AMD)])
    cuda = DriverFile("/usr/lib/libcuda.so.580", "/usr/lib64/libcuda.so.1")
    spec = cdi_spec(both, [cuda])
    assert spec["containerEdits"] == {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}
    edits = {device["name"]: device["containerEdits"] for device in spec["devices"]}
    assert set(edits["2"]) == {"deviceNodes"} and edits["2"]["deviceNodes"][0]["path"] == "/dev/kfd"
    for name in ("0", "1", "all"):
        assert [mount["containerPath"] for mount in edits[name]["mounts"]] == ["/usr/lib64/libcuda.so.1"]
        assert edits[name]["env"] == ["TRITON_LIBCUDA_PATH=/usr/lib64"]


def test_a_part_is_its_gpu_and_two_nodes_of_its_own() -> None:
    gpu = INVENTORY.devices[1]
    mig, _ = split(gpu, ["3g.40gb@4", "1g.10gb@0"])
    three, one = mig.instances
    split_up = INVENTORY.with_mig({gpu.uuid: mig})
    caps = [f"/dev/nvidia-caps/nvidia-cap{number}" for number in (156, 157, 201, 202)]
    own, first = "/dev/nvidia1", "/dev/nvidia0"
    # Nobody gets a split GPU by its index, as with nvidia-ctk.
    assert nodes_by_name(split_up) == {
        "0": [first],
        UUIDS[0]: [first],
        "1:0": [own, *caps[:2]],
        three.uuid: [own, *caps[:2]],
        "1:1": [own, *caps[2:]],
        one.uuid: [own, *caps[2:]],
        UUIDS[1]: [own, *caps],
        "all": [first, own, *caps],
    }


def test_the_name_is_fully_qualified() -> None:
    assert qualified_name(UUIDS[0]) == f"gpuyard.io/gpu={UUIDS[0]}"


DRIVER = (
    DriverFile("/opt/libcuda.so.550.1", "/usr/lib64/libcuda.so.1"),
    DriverFile("/run/nvidia-persistenced/socket", "/run/nvidia-persistenced/socket", is_socket=True),
)
_MOUNT = ["ro", "nosuid", "nodev", "rbind", "rprivate"]


def test_the_driver_comes_with_every_gpu_and_without_a_hook() -> None:
    edits = cdi_spec(INVENTORY, DRIVER)["containerEdits"]
    assert edits["mounts"] == [
        {"hostPath": DRIVER[0].host_path, "containerPath": DRIVER[0].container_path, "options": _MOUNT},
        {
            "hostPath": DRIVER[1].host_path,
            "containerPath": DRIVER[1].container_path,
            "options": [*_MOUNT, "noexec"],
        },
    ]
    assert edits.keys() == {"env", "mounts"}
    assert "TRITON_LIBCUDA_PATH=/usr/lib64" in edits["env"]
    assert not any("TRITON" in entry for entry in cdi_spec(INVENTORY, DRIVER[1:])["containerEdits"]["env"])


#: What the specification's schema allows: its objects have no other fields.
SCHEMA = {
    "": ({"cdiVersion", "kind", "devices"}, {"containerEdits", "annotations"}),
    "devices": ({"name", "containerEdits"}, {"annotations"}),
    "containerEdits": (set(), {"env", "deviceNodes", "mounts", "hooks"}),
    "deviceNodes": (
        {"path"},
        {"hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"},
    ),
    "mounts": ({"hostPath", "containerPath"}, {"options", "type"}),
}


def check(value: Any, key: str = "") -> int:
    """Holds a spec against it; gives how many paths it has."""
    if isinstance(value, list):
        return sum(check(item, key) for item in value)
    if isinstance(value, dict):
        needed, allowed = SCHEMA[key]
        assert needed <= value.keys() <= needed | allowed
        return sum(check(item, name) for name, item in value.items())
    assert isinstance(value, str)
    if "path" not in key.lower():
        return 0
    assert value.startswith("/") and value == os.path.normpath(value)
    return 1


def test_a_spec_is_one_by_the_specifications_schema() -> None:
    common = (DeviceNode("/dev/nvidiactl", "/run/driver/dev/nvidiactl"),)
    spec = cdi_spec(replace(INVENTORY, backend=Backend.NVML, common_nodes=common), DRIVER)
    assert check(spec) == 2 * (len(spec["devices"]) + 1 + len(common) + len(DRIVER))
