"""The GPUs of this node as they are now and as they change, wherever they come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

from gpuyard.devices import simulated
from gpuyard.devices.inventory import Backend, Inventory


async def follow(
    simulation: simulated.Simulation | None, *, seed: str, control: Path | None, driver_root: Path
) -> AsyncGenerator[Inventory, None]:
    """The inventory at once, and again whenever it has changed; never ends by itself.

    Args:
        simulation: what to simulate; None for the GPUs that NVML finds.
        seed: makes the ids of simulated GPUs this node's own.
        control: see `simulated.watch`.
        driver_root: where the driver is installed.
    """
    if simulation is not None:
        async for inventory in simulated.watch(simulation, seed=seed, control=control):
            yield inventory
        return
    yield Inventory(Backend.NONE, reason="no NVML backend yet")
