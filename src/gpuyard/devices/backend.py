"""Where a node's GPUs come from: the one seam between a vendor's driver and everything else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gpuyard.devices.inventory import Inventory
from gpuyard.devices.readings import Reading

if TYPE_CHECKING:
    from gpuyard.devices.health import Pace
    from gpuyard.devices.simulated.simulation import Simulation


class GpuBackend(Protocol):
    """The GPUs of this node, of one kind. It belongs to one event loop."""

    def inventories(self) -> AsyncGenerator[Inventory, None]:
        """What there is at once, and again whenever it has changed; never ends by itself."""

    def readings(self) -> Awaitable[Mapping[str, Reading]]:
        """What is measured now, by UUID of each GPU and MIG instance that answers.

        For who iterates over `inventories`, between and while waiting for them; none while the driver doesn't
        answer.
        """


def open_backend(
    simulation: Simulation | None,
    *,
    seed: str,
    control: Path | None,
    driver_root: Path,
    sys_root: Path = Path("/sys"),
    host_root: Path = Path("/"),
    pace: Pace | None = None,
) -> GpuBackend:
    """The GPUs that are simulated, or those of this machine.

    Args:
        simulation: what to simulate; None for the GPUs that NVML finds.
        seed: makes the ids of simulated GPUs this node's own.
        control: see `SimulatedBackend`.
        driver_root: where the driver is installed.
        sys_root: where sysfs is mounted.
        host_root: where the node's own file system is seen; `/` on the node itself.
        pace: how often the driver is asked.
    """
    # Here, since a node needs one of them.
    if simulation is not None:
        from gpuyard.devices.simulated.backend import SimulatedBackend

        return SimulatedBackend(simulation, seed=seed, control=control)
    from gpuyard.devices.nvml.backend import NvmlBackend

    return NvmlBackend(driver_root, sys_root, host_root, pace)
