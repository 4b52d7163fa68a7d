"""GPUs as NVIDIA's driver reports them through NVML.

The library is found by the loader's normal rules, or under a driver root. Drivers differ in what they
answer: a getter that isn't supported or isn't there leaves its value at a default. So does one that fails,
but then the reading isn't complete, and worth doing again.
"""

from __future__ import annotations

import ctypes
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pynvml

from gpuyard import errors
from gpuyard.devices.inventory import Absence, Backend, Device, DeviceNode, Inventory, Link, PcieLevel
from gpuyard.devices.nvml.driver_files import NVML, driver_root_in, find_libraries, on_host
from gpuyard.devices.nvml.mig import read_mig
from gpuyard.devices.sysfs import read_text
from gpuyard.gpus.catalogue import find_model, is_virtual

_COMMON_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
#: WSL's, and Jetson's.
_OTHER_COMMON_NODES = ("dxg", "nvmap", "nvhost-*", "nvgpu/igpu0/*")
_PCIE_LEVELS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: PcieLevel.SAME_BOARD,
    pynvml.NVML_TOPOLOGY_SINGLE: PcieLevel.ONE_SWITCH,
    pynvml.NVML_TOPOLOGY_MULTIPLE: PcieLevel.SEVERAL_SWITCHES,
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: PcieLevel.HOST_BRIDGE,
    pynvml.NVML_TOPOLOGY_NODE: PcieLevel.SAME_CPU,
    pynvml.NVML_TOPOLOGY_SYSTEM: PcieLevel.DIFFERENT_CPU,
}
#: nvmlIntNvLinkDeviceType: what sits at the other end of an NVLink.
_REMOTE_GPU, _REMOTE_SWITCH = 0, 2
_MIB = 1 << 20
#: Device nodes of a MIG instance: of its GPU instance, and of its compute instance.
_CAPS = 2
_DRI_NAME = re.compile(r"(?:card|renderD)\d+")
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class NoDriver(errors.DeviceError):
    """There is no NVIDIA driver here, which is no fault on a machine without GPUs."""

    def __init__(self, absence: Absence, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.absence = absence


#: What NVML says of each GPU when the driver itself is gone.
GONE = (
    pynvml.NVMLError_Uninitialized,
    pynvml.NVMLError_DriverNotLoaded,
    pynvml.NVMLError_LibraryNotFound,
    pynvml.NVMLError_LibRmVersionMismatch,
)


class Nvml:
    """An initialised NVML. The process must not fork (without exec) while it is open.

    Every method may block on the driver: call them in a thread.
    """

    def __init__(self, driver_root: Path, sys_root: Path, host_root: Path, proc_root: Path) -> None:
        """Use `open`."""
        self._proc_root = proc_root
        self._driver_root = driver_root
        self.sys_root = sys_root
        self._host_root = host_root
        self._faults: list[str] = []
        self._faults_said: list[str] = []

    @property
    def complete(self) -> bool:
        """Whether the driver answered everything that it knows, when it was read last."""
        return not self._faults

    @classmethod
    def open(
        cls,
        driver_root: Path,
        sys_root: Path = Path("/sys"),
        host_root: Path = Path("/"),
        proc_root: Path = Path("/proc"),
    ) -> Nvml:
        """Loads the library and starts it.

        Args:
            driver_root: where the driver is installed, or the GPU operator's driver is below; `/` for the
                loader's normal rules.
            sys_root: where sysfs is mounted.
            host_root: where the node's own file system is seen; `/` on the node itself.
            proc_root: where procfs is mounted.

        Raises:
            NoDriver: the library or the kernel module isn't there.
            DeviceError: they are there and don't work.
        """
        if driver_root != Path("/"):
            driver_root = driver_root_in(driver_root)
            _preload(driver_root)
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise _start_error(error) from error
        return cls(driver_root, sys_root, host_root, proc_root)

    @staticmethod
    def close() -> None:
        """Ends the use of the library; nothing where it isn't started."""
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError_Uninitialized:
            pass
        except pynvml.NVMLError as error:
            _LOG.warning("NVML doesn't shut down: %s", error)

    def inventory(self) -> Inventory:
        """Reads everything anew.

        Raises:
            DeviceError: the driver can't even count its GPUs.
        """
        self._faults = []
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise errors.DeviceError(f"NVML can't count the GPUs: {error}") from error
        found = [pair for index in range(count) if (pair := self._gpu(index)) is not None]
        inventory = self._inventory(found)
        if self._faults != self._faults_said:
            self._faults_said = self._faults
            for fault in self._faults:
                _LOG.warning("NVML: %s", fault)
        return inventory

    def _inventory(self, found: Sequence[tuple[Device, Any]]) -> Inventory:
        if not found:
            absence, why = Absence.NO_GPUS, "the NVIDIA driver is here and finds no GPU"
            if self._faults:
                absence = Absence.FAILED
                why = f"the NVIDIA driver is here, and no GPU can be read: {self._faults[0]}"
            return Inventory(Backend.NONE, absence=absence, detail=why)
        gpus = tuple(gpu for gpu, _ in found)
        cuda = self._ask("CUDA version", 0, pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return Inventory(
            Backend.NVML,
            driver_version=self._ask("driver version", "", pynvml.nvmlSystemGetDriverVersion),
            cuda_version=(cuda // 1000, cuda % 1000 // 10),
            devices=gpus,
            links=self._links(gpus, [handle for _, handle in found]),
            machine=read_text(self.sys_root / "class/dmi/id/product_name"),
            clique=next(filter(None, (self._clique(gpu.index, handle) for gpu, handle in found)), ""),
            common_nodes=tuple(self._nodes((*_COMMON_NODES, *_OTHER_COMMON_NODES))),
        )

    def _gpu(self, index: int) -> tuple[Device, Any] | None:
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
        # What is no text is no UUID.
        except (pynvml.NVMLError, UnicodeDecodeError) as error:
            self._faults.append(f"GPU {index} is left out, it can't be named: {error}")
            return None
        gpu = self._described(index, uuid, handle)
        try:
            mig = read_mig(handle, gpu.minor, gpu.memory_mib, self._nodes, self._proc_root)
        # One that is split must not be given out as a whole.
        except (pynvml.NVMLError, UnicodeDecodeError) as error:
            self._faults.append(f"GPU {index} is left out, how it is split isn't known: {error}")
            return None
        self._faults += [
            f"{part.profile} ({part.uuid}) of GPU {index} lacks device nodes in /dev/nvidia-caps"
            for part in (mig.instances if mig else ())
            if len(part.nodes) < _CAPS
        ]
        return replace(gpu, mig=mig), handle

    def _ask(self, what: str, default: _T, getter: Callable[..., Any], *args: Any) -> _T:
        """What the getter answers; `default`, and a fault, when it fails."""
        try:
            return ask(default, getter, *args)
        except (pynvml.NVMLError, UnicodeDecodeError) as error:
            self._faults.append(f"no {what}: {error}")
            return default

    def _described(self, index: int, uuid: str, handle: Any) -> Device:
        gpu = f"of GPU {index}"
        product = self._ask(f"name {gpu}", "", pynvml.nvmlDeviceGetName, handle)
        model = None if is_virtual(product) else find_model(product)
        memory = self._ask(f"memory {gpu}", None, pynvml.nvmlDeviceGetMemoryInfo, handle)
        bus_id = self._ask(f"PCI address {gpu}", "", _bus_id, pynvml.nvmlDeviceGetPciInfo, handle)
        minor = self._ask(f"minor number {gpu}", index, pynvml.nvmlDeviceGetMinorNumber, handle)
        known_memory = model.memory_mib if model else 0
        known_capability = (model and model.compute_capability) or (0, 0)
        return Device(
            index=index,
            uuid=uuid,
            product=product,
            model=model.name if model else "",
            # GPUs that share the machine's memory don't report any of their own.
            memory_mib=int(memory.total) // _MIB if memory is not None else known_memory,
            compute_capability=self._ask(
                f"compute capability {gpu}",
                known_capability,
                pynvml.nvmlDeviceGetCudaComputeCapability,
                handle,
            ),
            pci_bus_id=bus_id,
            numa_node=_numa_node(self.sys_root, bus_id),
            minor=minor,
            pci_class=read_text(self.sys_root / "bus/pci/devices" / bus_id / "class") if bus_id else "",
            nodes=tuple(self._nodes((f"nvidia{minor}", *_dri_names(self.sys_root, bus_id)))),
        )

    def _clique(self, index: int, handle: Any) -> str:
        """`<domain>.<clique>` of a GPU in an NVLink domain of several nodes; empty outside of one."""
        info = pynvml.c_nvmlGpuFabricInfo_t()
        what = f"NVLink domain of GPU {index}"
        answer = self._ask(what, None, pynvml.nvmlDeviceGetGpuFabricInfo, handle, ctypes.byref(info))
        if answer is None or info.state != pynvml.NVML_GPU_FABRIC_STATE_COMPLETED:
            return ""
        domain = bytes(info.clusterUuid)
        return f"{UUID(bytes=domain)}.{info.cliqueId}" if any(domain) else ""

    def _links(self, gpus: Sequence[Device], handles: Sequence[Any]) -> Mapping[tuple[str, str], Link]:
        place_of = {gpu.pci_bus_id: place for place, gpu in enumerate(gpus) if gpu.pci_bus_id}
        ends = [_nvlink_ends(handle, place_of) for handle in handles]
        links = {}
        for one, other in combinations(range(len(gpus)), 2):
            level = self._ask(
                f"PCIe path from GPU {gpus[one].index} to {gpus[other].index}",
                None,
                pynvml.nvmlDeviceGetTopologyCommonAncestor,
                handles[one],
                handles[other],
            )
            direct = max(ends[one][other], ends[other][one])
            # Switches join all GPUs of a node, each with all of its links.
            switched = min(ends[one][_SWITCH], ends[other][_SWITCH])
            links[gpus[one].uuid, gpus[other].uuid] = Link(
                PcieLevel.UNKNOWN if level is None else _PCIE_LEVELS.get(level, PcieLevel.UNKNOWN),
                direct + switched,
            )
        return links

    @property
    def dev(self) -> Path:
        """Where the GPUs' device nodes are."""
        # A driver that is installed elsewhere may have made its device nodes there, too.
        own = self._driver_root / "dev"
        return own if (own / "nvidiactl").exists() else Path("/dev")

    def _nodes(self, patterns: Iterable[str]) -> Iterator[DeviceNode]:
        folder = self.dev
        for pattern in patterns:
            # Not every driver has every node, and asking a runtime for a missing one fails the start.
            for path in sorted(folder.glob(pattern)):
                yield DeviceNode(f"/dev/{path.relative_to(folder)}", on_host(path, self._host_root))


def ask(default: _T, getter: Callable[..., Any], *args: Any) -> _T:
    """What the getter answers; `default` when this driver or this GPU doesn't know the question."""
    try:
        answer: _T = getter(*args)
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_FunctionNotFound,
    ):
        return default
    return answer


def gone(error: pynvml.NVMLError) -> errors.DriverGone:
    """What one of GONE means."""
    return errors.DriverGone(
        f"the NVIDIA driver is gone: {error}", remedy="see whether nvidia-smi works, and the kernel log"
    )


def _preload(driver_root: Path) -> None:
    """Loads the library by its path, for pynvml too."""
    fault: OSError | None = None
    for path in find_libraries(driver_root, NVML):
        try:
            library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            # It may be the one for 32-bit programs.
            fault = fault or error
            continue
        if pynvml.nvmlLib is None:
            # pynvml asks the loader for the SONAME, which not every build of the library has.
            pynvml.nvmlLib = library
        return
    if fault is not None:
        raise errors.DeviceError(
            f"can't load {NVML} under the driver root {driver_root}: {fault}",
            remedy="install a driver for this machine's processor",
        ) from fault
    raise NoDriver(
        Absence.NO_LIBRARY,
        f"there is no {NVML} under the driver root {driver_root}",
        remedy="name the folder that the NVIDIA driver is installed under",
    )


def _start_error(error: pynvml.NVMLError) -> errors.DeviceError:
    code = error.value
    if code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return NoDriver(
            Absence.NO_LIBRARY,
            f"the NVIDIA driver isn't installed: the loader finds no {NVML}",
            remedy="install the driver, or simulate GPUs with: gpuyard up --simulate H100:8",
        )
    if code == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return NoDriver(
            Absence.NO_DRIVER,
            "the NVIDIA driver's library is installed and its kernel module isn't loaded",
            remedy="load it with: modprobe nvidia",
        )
    if code == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return errors.DeviceError(
            "Driver/library version mismatch: the driver was updated under a running kernel module",
            remedy="reboot, or unload and load the nvidia kernel modules",
        )
    return errors.DeviceError(f"NVML doesn't start: {error}", remedy="see whether nvidia-smi works")


def _bus_id(getter: Callable[..., Any], *args: Any) -> str:
    """NVML writes the domain with eight digits, sysfs with four: `00000000:3B:00.0` → `0000:3b:00.0`.

    Raises:
        NVMLError, UnicodeDecodeError: the driver doesn't say, or no text.
    """
    raw: str = getter(*args).busId
    domain, _, rest = raw.lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest else ""


def _dri_names(sys_root: Path, bus_id: str) -> list[str]:
    """The GPU's own nodes for graphics and video, such as dri/renderD128."""
    try:
        names = [path.name for path in (sys_root / "bus/pci/devices" / bus_id / "drm").iterdir()]
    except OSError:
        return []
    return [f"dri/{name}" for name in sorted(names) if _DRI_NAME.fullmatch(name)]


def _numa_node(sys_root: Path, bus_id: str) -> int | None:
    try:
        node = int((sys_root / "bus/pci/devices" / bus_id / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


_SWITCH = -1


def _nvlink_ends(handle: Any, place_of: Mapping[str, int]) -> Counter[int]:
    """How many active NVLinks of a GPU lead to each other GPU (by its place), and to switches."""
    ends: Counter[int] = Counter()
    for number in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            if not pynvml.nvmlDeviceGetNvLinkState(handle, number):
                continue
        except pynvml.NVMLError:
            break  # It has no more links, or no NVLink at all.
        remote = _ask_link(_bus_id, pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, number)
        place = place_of.get(remote) if remote is not None else None
        if place is not None:
            ends[place] += 1
        elif _ask_link(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, number) in {None, _REMOTE_SWITCH}:
            ends[_SWITCH] += 1
    return ends


def _ask_link(getter: Callable[..., Any], *args: Any) -> Any:
    try:
        return getter(*args)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None
