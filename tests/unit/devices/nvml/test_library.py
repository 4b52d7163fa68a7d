import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pynvml
import pytest

from gpuyard import errors
from gpuyard.devices.inventory import Absence, Backend, DeviceNode, Inventory, Link, PcieLevel
from gpuyard.devices.nvml.library import NoDriver, Nvml

Stub = Callable[..., Path]


def uuid(index: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def read(root: Path, sys_root: Path = Path("/nonexistent")) -> Inventory:
    with closing(Nvml.open(root, sys_root)) as nvml:
        return nvml.inventory()


@pytest.fixture
def root(nvml_stub: Stub) -> Iterator[Path]:
    yield nvml_stub()


def test_reads_what_the_driver_says(root: Path, tmp_path: Path) -> None:
    numa = tmp_path / "bus/pci/devices/0000:3b:00.0/numa_node"
    numa.parent.mkdir(parents=True)
    numa.write_text("1\n")
    inventory = read(root, tmp_path)
    assert inventory.backend is Backend.NVML
    assert inventory.driver_version == "550.107.02"
    assert inventory.cuda_version == (12, 4)
    assert [gpu.uuid for gpu in inventory.devices] == [uuid(index) for index in range(4)]
    gpu = inventory.devices[1]
    assert (gpu.product, gpu.model, gpu.memory_mib) == ("NVIDIA H100 80GB HBM3", "H100", 81559)
    assert (gpu.compute_capability, gpu.pci_bus_id, gpu.minor) == ((9, 0), "0000:3b:00.0", 1)
    assert (gpu.numa_node, inventory.devices[0].numa_node) == (1, None)
    assert gpu.nodes == (DeviceNode("/dev/nvidia1", str(root / "dev/nvidia1")),)
    # Only the nodes that are there: no nvidia-uvm-tools, no nvidia-modeset.
    assert [node.path for node in inventory.common_nodes] == ["/dev/nvidiactl", "/dev/nvidia-uvm"]


def test_the_gpus_own_nodes_for_video_and_wsls_and_jetsons(nvml_stub: Stub, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(nvml_stub(), root)
    drm = tmp_path / "bus/pci/devices/0000:3b:00.0/drm"
    for name in ("card1", "renderD128", "controlD64"):
        (drm / name).mkdir(parents=True)
    (root / "dev/dri").mkdir()
    for name in ("dri/renderD128", "dri/card1", "dri/card0", "dxg", "nvhost-gpu", "nvmap"):
        (root / "dev" / name).touch()
    inventory = read(root, tmp_path)
    own = [[node.path for node in gpu.nodes] for gpu in inventory.devices[:2]]
    assert own == [["/dev/nvidia0"], ["/dev/nvidia1", "/dev/dri/card1", "/dev/dri/renderD128"]]
    common = [node.path for node in inventory.common_nodes]
    assert common == ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/dxg", "/dev/nvmap", "/dev/nvhost-gpu"]


def test_the_gpu_operators_driver_below_a_nodes_root(root: Path, tmp_path: Path) -> None:
    below = tmp_path / "run/nvidia/driver"
    shutil.copytree(root, below)
    # In there a link begins at the container's own root.
    library = below / "usr/lib64/libnvidia-ml.so.1"
    library.rename(library.with_name("libnvidia-ml.so.550.107.02"))
    library.symlink_to("/usr/lib64/libnvidia-ml.so.550.107.02")
    with closing(Nvml.open(tmp_path, Path("/nonexistent"), tmp_path)) as nvml:
        nodes = nvml.inventory().devices[0].nodes
    assert nodes == (DeviceNode("/dev/nvidia0", "/run/nvidia/driver/dev/nvidia0"),)


def test_in_a_container_nodes_are_named_as_the_host_has_them(root: Path) -> None:
    with closing(Nvml.open(root, Path("/nonexistent"), root)) as nvml:
        assert nvml.inventory().devices[0].nodes == (DeviceNode("/dev/nvidia0", "/dev/nvidia0"),)


def test_negative_numa_node_is_none(root: Path, tmp_path: Path) -> None:
    numa = tmp_path / "bus/pci/devices/0000:3a:00.0/numa_node"
    numa.parent.mkdir(parents=True)
    numa.write_text("-1\n")
    assert read(root, tmp_path).devices[0].numa_node is None


def test_counts_nvlinks_between_gpus(root: Path) -> None:
    inventory = read(root)
    assert inventory.link(uuid(0), uuid(1)) == Link(PcieLevel.HOST_BRIDGE, 4)
    assert inventory.link(uuid(3), uuid(2)) == Link(PcieLevel.HOST_BRIDGE, 4)
    assert inventory.link(uuid(1), uuid(2)) == Link(PcieLevel.HOST_BRIDGE, 0)


def test_switches_join_all_gpus(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_NVSWITCH", "1")
    monkeypatch.setenv("NVML_STUB_GPUS", "8")
    inventory = read(root)
    assert {link.nvlinks for link in inventory.links.values()} == {4}
    assert inventory.link(uuid(0), uuid(7)).pcie is PcieLevel.DIFFERENT_CPU


def test_getters_that_are_not_supported_leave_defaults(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    getters = [
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetMinorNumber",
        "nvmlDeviceGetTopologyCommonAncestor",
        "nvmlDeviceGetNvLinkState",
    ]
    monkeypatch.setenv("NVML_STUB_NOT_SUPPORTED", ",".join(getters))
    inventory = read(root)
    gpu = inventory.devices[2]
    # The catalogue knows the model's memory and compute capability.
    assert (gpu.memory_mib, gpu.compute_capability) == (81559, (9, 0))
    assert (gpu.pci_bus_id, gpu.numa_node, gpu.minor) == ("", None, 2)
    assert (inventory.driver_version, inventory.cuda_version) == ("", (0, 0))
    assert set(inventory.links.values()) == {Link()}


def test_a_gpu_without_a_name_is_still_served(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_NOT_SUPPORTED", "nvmlDeviceGetName")
    assert [(gpu.product, gpu.model) for gpu in read(root).devices] == [("", "")] * 4


def test_a_virtual_gpu_is_no_whole_board(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Who asks for an H100 doesn't mean 20 GB of one.
    monkeypatch.setenv("NVML_STUB_NAME", "NVIDIA H100XM-20C")
    assert [(gpu.product, gpu.model) for gpu in read(root).devices] == [("NVIDIA H100XM-20C", "")] * 4


def test_a_lost_gpu_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lost").write_text("1\n")
    monkeypatch.setenv("NVML_STUB_LOST", str(tmp_path / "lost"))
    assert [gpu.index for gpu in read(root).devices] == [0, 2, 3]


def test_a_driver_without_gpus_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_GPUS", "0")
    inventory = read(root)
    assert (inventory.backend, inventory.absence) == (Backend.NONE, Absence.NO_GPUS)


def test_a_driver_that_lacks_functions_is_good_enough(nvml_stub: Stub) -> None:
    # In a process of its own: a library of the same SONAME is loaded once per process.
    script = (
        "import json, sys; from pathlib import Path; from gpuyard.devices.nvml.library import Nvml\n"
        "inventory = Nvml.open(Path(sys.argv[1])).inventory()\n"
        "print(json.dumps([inventory.cuda_version, [gpu.compute_capability for gpu in inventory.devices],"
        " [link.nvlinks for link in inventory.links.values()]]))"
    )
    root = nvml_stub("-DOLD_DRIVER")
    done = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[0, 0], [[9, 0]] * 4, [4, 0, 0, 0, 0, 4]]


#: The profiles of the mock of NVML in NVIDIA/k8s-test-infra (pkg/gpu/mocknvml/configs; a GB200 has had two
#: names there): the model, and what the stub is to say: name, MiB, compute capability, NVLinks, CUDA, driver.
PROFILES = {
    "T4": ("Tesla T4", 15360, (7, 5), 0, 12040, "550.163.01"),
    "A100-40GB": ("NVIDIA A100-SXM4-40GB", 40960, (8, 0), 12, 12040, "550.163.01"),
    "L40S": ("NVIDIA L40S", 46068, (8, 9), 0, 12040, "550.163.01"),
    "H100": ("NVIDIA H100 80GB HBM3", 81920, (9, 0), 18, 12040, "550.163.01"),
    "B200": ("NVIDIA B200", 196608, (10, 0), 18, 12080, "570.124.06"),
    "GB200": ("NVIDIA GB200", 196608, (10, 0), 18, 12060, "560.35.03"),
    "GB200 ": ("NVIDIA GB200 NVL", 196608, (10, 0), 18, 12060, "560.35.03"),
    "GB300": ("NVIDIA GB300 NVL", 294912, (10, 0), 18, 12080, "570.124.06"),
    # A board that this driver has no name for yet.
    "": ("NVIDIA Graphics Device", 286524, (10, 7), 18, 13040, "615.23"),
}


@pytest.mark.parametrize("model", PROFILES)
def test_the_profiles_of_the_mock(root: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    name, memory_mib, capability, links, cuda, driver = PROFILES[model]
    said = f"{name};{memory_mib};{'.'.join(map(str, capability))};{links};{cuda};{driver}"
    monkeypatch.setenv("NVML_STUB_PROFILE", said)
    monkeypatch.setenv("NVML_STUB_NVSWITCH", "1")
    inventory = read(root)
    assert (inventory.driver_version, inventory.cuda_version[0]) == (driver, cuda // 1000)
    assert {(gpu.product, gpu.model, gpu.memory_mib) for gpu in inventory.devices} == {
        (name, model.strip(), memory_mib)
    }
    assert {gpu.compute_capability for gpu in inventory.devices} == {capability}
    assert {link.nvlinks for link in inventory.links.values()} == {links}


def reads_in_a_process_of_its_own(root: Path) -> tuple[str, str]:
    """Standard error and the number of GPUs: a library is loaded once per process."""
    script = (
        "import sys; from pathlib import Path; from gpuyard.devices.nvml.library import Nvml\n"
        "print(len(Nvml.open(Path(sys.argv[1])).inventory().devices))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True)
    return done.stderr, done.stdout.strip()


def test_a_library_without_a_soname_is_good_enough(nvml_stub: Stub) -> None:
    assert reads_in_a_process_of_its_own(nvml_stub("-Wl,-soname,")) == ("", "4")


@pytest.mark.parametrize(
    "folder", ["usr/lib/x86_64-linux-gnu/nvidia/current", "usr/local/nvidia/lib64", "lib"]
)
def test_a_library_is_found_where_drivers_are_installed(nvml_stub: Stub, tmp_path: Path, folder: str) -> None:
    library = tmp_path / folder / "libnvidia-ml.so.1"
    library.parent.mkdir(parents=True)
    library.symlink_to(nvml_stub() / "usr/lib64/libnvidia-ml.so.1")
    assert reads_in_a_process_of_its_own(tmp_path) == ("", "4")


def test_a_library_for_other_programs_is_passed_over(nvml_stub: Stub, tmp_path: Path) -> None:
    # As with 32-bit libraries.
    for folder in ("usr/lib64", "lib64"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/lib64/libnvidia-ml.so.1").write_bytes(b"\x7fELF\x01\x01\x01")
    (tmp_path / "lib64/libnvidia-ml.so.1").symlink_to(nvml_stub() / "usr/lib64/libnvidia-ml.so.1")
    assert reads_in_a_process_of_its_own(tmp_path) == ("", "4")


def test_the_loader_finds_the_library(nvml_stub: Stub) -> None:
    script = (
        "from pathlib import Path; from gpuyard.devices.nvml.library import Nvml\n"
        "print(len(Nvml.open(Path('/')).inventory().devices))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"LD_LIBRARY_PATH": str(nvml_stub() / "usr/lib64")},
        capture_output=True,
        text=True,
    )
    assert (done.stderr, done.stdout.strip()) == ("", "4")


def test_version_mismatch_names_the_remedy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_INIT", "18")
    with pytest.raises(errors.DeviceError, match="Driver/library version mismatch") as caught:
        Nvml.open(root)
    assert "reboot" in caught.value.remedy
    assert not isinstance(caught.value, NoDriver)


def test_a_missing_kernel_module_is_no_driver(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_STUB_INIT", "9")
    with pytest.raises(NoDriver) as caught:
        Nvml.open(root)
    assert caught.value.absence is Absence.NO_DRIVER


def test_an_empty_driver_root_has_no_library(tmp_path: Path) -> None:
    with pytest.raises(NoDriver) as caught:
        Nvml.open(tmp_path)
    assert caught.value.absence is Absence.NO_LIBRARY
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize("function", ["nvmlDeviceGetPciInfo", "nvmlDeviceGetNvLinkRemotePciInfo"])
def test_an_address_that_is_no_text_is_none(
    nvml_stub: Stub, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def answer(*_: object) -> object:
        info = pynvml.nvmlPciInfo_t()
        info.busId = b"\xff"
        return info

    monkeypatch.setattr(pynvml, function, answer)
    with closing(Nvml.open(nvml_stub(), Path("/nonexistent"))) as nvml:
        gpus = nvml.inventory().devices
    assert len(gpus) == 4
    assert (gpus[0].pci_bus_id == "") == (function == "nvmlDeviceGetPciInfo")
