"""What is found on two machines, and on those that are broken in some way."""

import shutil
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.devices.amd import kfd
from gpuyard.devices.amd.gpus import has_gpus, read_gpus
from gpuyard.devices.inventory import Absence, AmdTraits, Backend, DeviceNode, Link, PcieLevel
from gpuyard.kube.wellknown import AMD
from tests.amd_machines import AmdMachine

NODES = "class/kfd/kfd/topology/nodes"


@pytest.fixture
def mi300x(tmp_path: Path) -> AmdMachine:
    return AmdMachine("mi300x", tmp_path)


@pytest.fixture
def radeon(tmp_path: Path) -> AmdMachine:
    return AmdMachine("radeon", tmp_path)


def test_eight_accelerators(mi300x: AmdMachine) -> None:
    found = read_gpus(mi300x.sys_root, mi300x.host_root)
    assert (found.backend, len(found.devices), found.common_nodes) == (Backend.AMD, 8, ())
    assert {gpu.product for gpu in found.devices} == {"AMD Instinct MI300X OAM"}
    assert {(gpu.model, gpu.vendor, gpu.memory_mib) for gpu in found.devices} == {("MI300X", AMD, 196592)}
    assert [gpu.numa_node for gpu in found.devices] == [0] * 4 + [1] * 4
    third = found.devices[2]
    assert (third.index, third.uuid, third.pci_bus_id) == (2, "GPU-3cbe002bd3b6313d", "0000:46:00.0")
    assert third.nodes == tuple(
        DeviceNode(path, path) for path in ("/dev/kfd", "/dev/dri/card17", "/dev/dri/renderD144")
    )
    assert third.amd == AmdTraits(
        device_id="74a1",
        family="AI",
        compute_units=304,
        simds=1216,
        partition="spx_nps1",
        can_split_compute=True,
        can_split_memory=True,
        driver_version="6.10.5",
        driver_src_version="6B2F7D8C0A1E4F35D9C7B21",
    )


def test_each_pair_of_them_has_a_link(mi300x: AmdMachine) -> None:
    found = read_gpus(mi300x.sys_root, mi300x.host_root)
    assert len(found.links) == 28
    assert found.link(found.devices[0].uuid, found.devices[3].uuid) == Link(PcieLevel.SAME_CPU, 1)
    assert found.link(found.devices[7].uuid, found.devices[0].uuid) == Link(PcieLevel.DIFFERENT_CPU, 1)


def test_a_desktop_has_its_board_and_not_the_graphics_of_its_processor(radeon: AmdMachine) -> None:
    (gpu,) = read_gpus(radeon.sys_root, radeon.host_root).devices
    assert has_gpus(radeon.sys_root)
    assert (gpu.index, gpu.product, gpu.model) == (0, "AMD Radeon RX 7900 XTX", "RX-7900-XTX")
    assert (gpu.uuid, gpu.memory_mib, gpu.numa_node) == ("GPU-9e7f4de7ac7cf81b", 24560, None)
    assert gpu.amd is not None
    assert (gpu.amd.family, gpu.amd.compute_units, gpu.amd.partition) == ("GC_11_0_0", 96, "")


def test_a_processors_graphics_alone_are_no_gpu(radeon: AmdMachine) -> None:
    shutil.rmtree(radeon.sys_root / NODES / "1")
    found = read_gpus(radeon.sys_root, radeon.host_root)
    assert (found.backend, found.absence, found.devices) == (Backend.NONE, Absence.NO_GPUS, ())
    assert "gfx1036" in found.detail
    assert not has_gpus(radeon.sys_root)


def test_no_driver(tmp_path: Path) -> None:
    found = read_gpus(tmp_path, tmp_path)
    assert not has_gpus(tmp_path)
    assert (found.backend, found.absence) == (Backend.NONE, Absence.NO_DRIVER)
    assert "modprobe amdgpu" in found.detail


def test_a_gpu_that_is_split_is_several_devices(mi300x: AmdMachine) -> None:
    """As KFD shows CPX: nodes with one unique id, with a render node and a bank of memory each."""
    first = (mi300x.sys_root / NODES / "2/properties").read_text()
    for part in (1, 2):
        properties = first.replace("drm_render_minor 128", f"drm_render_minor {128 + part}")
        mi300x.write(
            f"{NODES}/{9 + part}/properties", properties.replace("simd_count 1216", "simd_count 152")
        )
        mi300x.write(f"{NODES}/{9 + part}/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 25769803776")
        mi300x.write(f"devices/platform/amdgpu_xcp_{part}/drm/renderD{128 + part}/dev", f"226:{128 + part}")
        link = mi300x.sys_root / f"class/drm/renderD{128 + part}"
        link.mkdir()
        (link / "device").symlink_to(mi300x.sys_root / f"devices/platform/amdgpu_xcp_{part}")
        (mi300x.host_root / f"dev/dri/renderD{128 + part}").touch()
    found = read_gpus(mi300x.sys_root, mi300x.host_root)
    parts = [found.devices[0], *found.devices[8:]]
    whole = found.devices[0].uuid
    assert [part.uuid for part in parts] == [whole, f"{whole}.1", f"{whole}.2"]
    assert [part.memory_mib for part in parts] == [196592, 24576, 24576]
    assert parts[1].nodes[-1].path == "/dev/dri/renderD129"
    assert found.link(whole, f"{whole}.1").pcie is PcieLevel.SAME_BOARD


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        ("pci0000:00/0000:00:01.0/01/02", "pci0000:00/0000:00:01.0/01/03", PcieLevel.ONE_SWITCH),
        (
            "pci0000:00/0000:00:01.0/01/02/04/gpu",
            "pci0000:00/0000:00:01.0/01/gpu",
            PcieLevel.SEVERAL_SWITCHES,
        ),
        ("pci0000:00/0000:00:01.0", "pci0000:00/0000:00:02.0", PcieLevel.HOST_BRIDGE),
        ("pci0000:00/0000:00:01.0", "pci0000:40/0000:40:01.0", PcieLevel.SAME_CPU),
    ],
)
def test_how_near_they_are_on_pcie(mi300x: AmdMachine, one: str, other: str, level: PcieLevel) -> None:
    for address, path in (("0000:05:00.0", one), ("0000:26:00.0", other)):
        place = mi300x.sys_root / "bus/pci/devices" / address
        device = place.resolve()
        moved = mi300x.sys_root / "devices" / path / address
        moved.parent.mkdir(parents=True, exist_ok=True)
        device.rename(moved)
        place.unlink()
        place.symlink_to(moved)
    found = read_gpus(mi300x.sys_root, mi300x.host_root)
    assert found.link(found.devices[0].uuid, found.devices[1].uuid).pcie is level


def test_links_of_two_dies_are_counted_together(mi300x: AmdMachine) -> None:
    path = f"{NODES}/2/io_links/1/properties"
    text = (mi300x.sys_root / path).read_text()
    mi300x.write(path, text.replace("max_bandwidth 64000", "max_bandwidth 256000"))
    found = read_gpus(mi300x.sys_root, mi300x.host_root)
    assert found.link(found.devices[0].uuid, found.devices[1].uuid).nvlinks == 4


def test_what_is_nonsense_or_missing_is_left_out(radeon: AmdMachine) -> None:
    radeon.write(f"{NODES}/1/mem_banks/0/properties", "heap_type one\n\x00\xff size_in_bytes")
    radeon.write(f"{NODES}/1/io_links/0/properties", "")
    radeon.write("devices/pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:00.0/0000:03:00.0/numa_node", "none")
    properties = (radeon.sys_root / NODES / "1/properties").read_text()
    radeon.write(f"{NODES}/1/properties", f"{properties}garbage\nunique_id many\nsimd_per_cu 0")
    radeon.write(f"{NODES}/x/properties", properties)
    (gpu,) = read_gpus(radeon.sys_root, radeon.host_root).devices
    # Its memory is the board's then.
    assert (gpu.memory_mib, gpu.numa_node) == (24560, None)
    assert gpu.amd is not None
    assert gpu.amd.compute_units == 0


def test_a_gpu_without_a_unique_id_is_called_by_its_place(radeon: AmdMachine) -> None:
    path = f"{NODES}/1/properties"
    radeon.write(path, (radeon.sys_root / path).read_text().replace("unique_id 11420932837461522459\n", ""))
    (gpu,) = read_gpus(radeon.sys_root, radeon.host_root).devices
    assert gpu.uuid == "GPU-0000-03-00.0"


def test_gpus_that_the_device_cgroup_hides(mi300x: AmdMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel then refuses to read them; a test that runs as root can't have files do that."""
    readable = kfd.read_properties

    def refuse(path: Path) -> dict[str, int]:
        if path.parts[-3] == "nodes" and int(path.parts[-2]) >= first_hidden:
            raise PermissionError(1, "Operation not permitted", str(path))
        return readable(path)

    monkeypatch.setattr(kfd, "read_properties", refuse)
    first_hidden = 4
    assert len(read_gpus(mi300x.sys_root, mi300x.host_root).devices) == 2
    first_hidden = 2
    with pytest.raises(errors.DeviceError, match="hides 8 AMD GPUs") as caught:
        read_gpus(mi300x.sys_root, mi300x.host_root)
    assert "--driver-access privileged" in caught.value.remedy
