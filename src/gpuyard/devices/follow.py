"""The GPUs of this node as they are now and as they change, wherever they come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard.devices import simulated
from gpuyard.devices.inventory import Inventory

if TYPE_CHECKING:
    from gpuyard.devices.health import Pace


async def follow(
    simulation: simulated.Simulation | None,
    *,
    seed: str,
    control: Path | None,
    driver_root: Path,
    sys_root: Path = Path("/sys"),
    host_root: Path = Path("/"),
    pace: Pace | None = None,
) -> AsyncGenerator[Inventory, None]:
    """The inventory at once, and again whenever it has changed; never ends by itself.

    Args:
        simulation: what to simulate; None for the GPUs that NVML finds.
        seed: makes the ids of simulated GPUs this node's own.
        control: see `simulated.watch`.
        driver_root: where the driver is installed.
        sys_root: where sysfs is mounted.
        host_root: where the node's own file system is seen; `/` on the node itself.
        pace: how often the driver is asked.
    """
    if simulation is not None:
        async with aclosing(simulated.watch(simulation, seed=seed, control=control)) as inventories:
            async for inventory in inventories:
                yield inventory
        return
    # Here, since a node with simulated GPUs needs none of it.
    from gpuyard.devices.nvml_follower import NvmlFollower

    follower = NvmlFollower(driver_root, sys_root, host_root, pace)
    shown: Inventory | None = None
    async with aclosing(follower.inventories()) as inventories:
        async for inventory in inventories:
            if inventory != shown:
                shown = inventory
                yield inventory
