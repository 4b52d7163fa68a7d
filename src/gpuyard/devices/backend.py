"""Where a node's GPUs come from: the one seam between a vendor's driver and everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from gpuyard import errors
from gpuyard.devices.inventory import Absence, Backend, Device, Inventory
from gpuyard.devices.readings import GpuProcess, Reading
from gpuyard.devices.sysfs import read_text

if TYPE_CHECKING:
    from gpuyard.devices.health import Pace
    from gpuyard.devices.simulated.simulation import Simulation

_LOG = logging.getLogger(__name__)

#: PCI's id of AMD.
AMD_PCI = "0x1002"
#: PCI's classes of display controllers, and of accelerators that drive no display.
_GPU_CLASSES = ("0x03", "0x12")


class GpuBackend(Protocol):
    """The GPUs of this node, of one kind. It belongs to one event loop."""

    def inventories(self) -> AsyncGenerator[Inventory, None]:
        """What there is at once, and again whenever it has changed; never ends by itself."""

    def readings(self, held: Collection[str] = ()) -> Awaitable[Mapping[str, Reading]]:
        """What is measured now, by UUID of each GPU and MIG instance that answers.

        For who iterates over `inventories`, between and while waiting for them; none while the driver doesn't
        answer.

        Args:
            held: UUIDs of what pods hold: where nothing real can be measured that is what is busy.
        """

    def processes(self) -> Awaitable[Mapping[str, tuple[GpuProcess, ...]]]:
        """Which processes have each GPU and MIG instance open, by its UUID; else as `readings`."""


def open_backend(
    simulation: Simulation | None,
    *,
    seed: str,
    control: Path | None,
    driver_root: Path,
    sys_root: Path = Path("/sys"),
    host_root: Path = Path("/"),
    module: str | None = None,
    pace: Pace | None = None,
) -> GpuBackend:
    """The GPUs that are simulated, or those of this machine: NVIDIA's, AMD's where it has some, and others'.

    Args:
        simulation: what to simulate; None for the machine's.
        seed: makes the ids of simulated GPUs this node's own.
        control: see `SimulatedBackend`.
        driver_root: where the driver is installed.
        sys_root: where sysfs is mounted.
        host_root: where the node's own file system is seen; `/` on the node itself.
        module: see `load_backend`; None for no other vendor's. While it can't be loaded the others serve.
        pace: how often the driver is asked.
    """
    if module:
        others = LateBackend(partial(load_backend, module, sys_root=sys_root, host_root=host_root))
        known = open_backend(
            simulation,
            seed=seed,
            control=control,
            driver_root=driver_root,
            sys_root=sys_root,
            host_root=host_root,
            pace=pace,
        )
        return CombinedBackend(known, others)
    # Here, since a node needs one of them.
    if simulation is not None:
        from gpuyard.devices.simulated.backend import SimulatedBackend

        return SimulatedBackend(simulation, seed=seed, control=control)
    from gpuyard.devices.nvml.backend import NvmlBackend

    nvidia = NvmlBackend(driver_root, sys_root, host_root, pace)
    if not has_display_device(sys_root, AMD_PCI):
        return nvidia
    from gpuyard.devices.amd.backend import AmdBackend

    return CombinedBackend(nvidia, AmdBackend(sys_root, host_root, pace))


def load_backend(module: str, *, sys_root: Path = Path("/sys"), host_root: Path) -> GpuBackend:
    """The GPUs of another vendor, by a module with a function `open_backend(sys_root, host_root)`.

    Args:
        module: its name, as Python imports it, or the path of its file, which ends with `.py`.
        sys_root: see `open_backend`.
        host_root: see `open_backend`.

    Raises:
        UsageError: there is no such module, it can't be loaded, or it has no such function.
    """
    remedy = "name its file, or put its folder into PYTHONPATH; see docs/how-to/add-a-vendor.md"
    try:
        found = _module_at(Path(module)) if module.endswith(".py") else import_module(module)
    except (ImportError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise errors.UsageError(
            f"--gpu-backend {module!r} can't be loaded: {error}", remedy=remedy
        ) from error
    opener: Callable[[Path, Path], GpuBackend] | None = getattr(found, "open_backend", None)
    if not callable(opener):
        raise errors.UsageError(f"--gpu-backend {module!r} has no function open_backend", remedy=remedy)
    return opener(sys_root, host_root)


def _module_at(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    # Of a name that ends so there is always a loader.
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_display_device(sys_root: Path, vendor: str) -> bool:
    """Whether the PCI bus has a GPU of a vendor, with a driver or without.

    Args:
        sys_root: where sysfs is mounted.
        vendor: PCI's id of it, as sysfs writes it: `0x1002`.
    """
    return any(
        read_text(device / "vendor") == vendor and read_text(device / "class").startswith(_GPU_CLASSES)
        for device in (sys_root / "bus/pci/devices").glob("*")
    )


class LateBackend:
    """A backend that is tried to be loaded until it can be: its file may come back.

    Args:
        load: loads it, or raises a UsageError.
        look_again_s: between two tries.
    """

    def __init__(self, load: Callable[[], GpuBackend], look_again_s: float = 30.0) -> None:
        self._load = load
        self._look_again_s = look_again_s
        self._backend: GpuBackend | None = None

    async def inventories(self) -> AsyncGenerator[Inventory, None]:
        """Why it can't be loaded, and again when that is another reason; its own once it can."""
        said = ""
        while self._backend is None:
            try:
                self._backend = self._load()
            except errors.UsageError as error:
                if error.message != said:
                    said = error.message
                    _LOG.warning("%s; %s", said, error.remedy)
                    yield Inventory(Backend.NONE, Absence.FAILED, f"{said}; {error.remedy}")
                await asyncio.sleep(self._look_again_s)
        async with aclosing(self._backend.inventories()) as inventories:
            async for inventory in inventories:
                yield inventory

    async def readings(self, held: Collection[str] = ()) -> Mapping[str, Reading]:
        """Its own; none before it is loaded."""
        return {} if self._backend is None else await self._backend.readings(held)

    async def processes(self) -> Mapping[str, tuple[GpuProcess, ...]]:
        """Its own; none before it is loaded."""
        return {} if self._backend is None else await self._backend.processes()


class CombinedBackend:
    """Several backends as one. Whoever has no GPUs holds up nobody else's.

    Args:
        backends: one a vendor; indexes are given in this order.
    """

    def __init__(self, *backends: GpuBackend) -> None:
        self._backends = backends

    async def inventories(self) -> AsyncGenerator[Inventory, None]:
        """All GPUs once somebody has found some, or all have looked; and again after every change."""
        latest: dict[int, Inventory] = {}
        changed = asyncio.Event()

        async def follow(place: int, backend: GpuBackend) -> None:
            try:
                async with aclosing(backend.inventories()) as inventories:
                    async for inventory in inventories:
                        latest[place] = inventory
                        changed.set()
            finally:
                changed.set()

        following = [
            asyncio.create_task(follow(place, backend), name=f"GPUs of backend {place}")
            for place, backend in enumerate(self._backends)
        ]
        try:
            while True:
                await changed.wait()
                changed.clear()
                for task in following:
                    if task.done():
                        task.result()
                found = [latest[place] for place in sorted(latest)]
                if len(found) == len(self._backends) or any(inventory.devices for inventory in found):
                    yield combine(found)
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    async def readings(self, held: Collection[str] = ()) -> Mapping[str, Reading]:
        """What is measured now, by UUID, of everybody's."""
        each = await asyncio.gather(*(backend.readings(held) for backend in self._backends))
        return {uuid: reading for readings in each for uuid, reading in readings.items()}

    async def processes(self) -> Mapping[str, tuple[GpuProcess, ...]]:
        """Which processes have each GPU and MIG instance open, of everybody's."""
        each = await asyncio.gather(*(backend.processes() for backend in self._backends))
        return {uuid: of_it for processes in each for uuid, of_it in processes.items()}


def combine(inventories: Sequence[Inventory]) -> Inventory:
    """One inventory of all; where nobody has GPUs, the first says why, and what others have to say follows.

    Beside GPUs it is told whose can't be looked at; that there is no driver for others' is no news then.
    What one vendor's programs need in common goes to its own GPUs: another's have no use for it.
    """
    with_gpus = [inventory for inventory in inventories if inventory.devices]
    if len(with_gpus) < 2:
        found = with_gpus[0] if with_gpus else inventories[0]
        telling = [each for each in inventories if not with_gpus or _tells(each)]
        detail = _joined(each.detail for each in telling)
        return found if detail == found.detail else replace(found, detail=detail)
    devices: list[Device] = []
    for inventory in with_gpus:
        first = max((gpu.index for gpu in devices), default=-1) + 1
        devices += [
            replace(gpu, index=first + gpu.index, nodes=(*inventory.common_nodes, *gpu.nodes))
            for gpu in inventory.devices
        ]
    return replace(
        with_gpus[0],
        detail=_joined(each.detail for each in inventories if _tells(each)),
        devices=tuple(devices),
        links={pair: link for each in with_gpus for pair, link in each.links.items()},
        common_nodes=(),
    )


def _tells(inventory: Inventory) -> bool:
    return bool(inventory.devices) or inventory.absence is Absence.FAILED


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(filter(None, texts))
