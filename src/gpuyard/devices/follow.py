"""The GPUs of this node as they are now and as they change, wherever they come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from gpuyard import errors
from gpuyard.devices import simulated
from gpuyard.devices.inventory import Absence, Backend, Inventory

#: A driver that is installed or repaired is noticed after so long.
_LOOK_AGAIN_S = 30.0


async def follow(
    simulation: simulated.Simulation | None,
    *,
    seed: str,
    control: Path | None,
    driver_root: Path,
    sys_root: Path = Path("/sys"),
    host_root: Path = Path("/"),
    look_again_s: float = _LOOK_AGAIN_S,
) -> AsyncGenerator[Inventory, None]:
    """The inventory at once, and again whenever it has changed; never ends by itself.

    Args:
        simulation: what to simulate; None for the GPUs that NVML finds.
        seed: makes the ids of simulated GPUs this node's own.
        control: see `simulated.watch`.
        driver_root: where the driver is installed.
        sys_root: where sysfs is mounted.
        host_root: where the node's own file system is seen; `/` on the node itself.
        look_again_s: how often a node without GPUs is looked at again.
    """
    if simulation is not None:
        async with aclosing(simulated.watch(simulation, seed=seed, control=control)) as inventories:
            async for inventory in inventories:
                yield inventory
        return
    shown: Inventory | None = None
    while True:
        async with aclosing(_nvml(driver_root, sys_root, host_root)) as inventories:
            async for inventory in inventories:
                if inventory != shown:
                    shown = inventory
                    yield inventory
        await asyncio.sleep(look_again_s)


async def _nvml(driver_root: Path, sys_root: Path, host_root: Path) -> AsyncGenerator[Inventory, None]:
    """What NVML finds; ends after the first answer when that has no GPUs."""
    # Here, since a node with simulated GPUs needs none of it.
    from gpuyard.devices import health, nvml

    try:
        driver = await asyncio.to_thread(nvml.Nvml.open, driver_root, sys_root, host_root)
    except errors.DeviceError as error:
        absence = error.absence if isinstance(error, nvml.NoDriver) else Absence.FAILED
        yield _without_gpus(absence, error)
        return
    try:
        inventory = await asyncio.to_thread(driver.inventory)
        yield inventory
        if inventory.devices:
            async with aclosing(health.watch_health(gpu.uuid for gpu in inventory.devices)) as changes:
                async for unhealthy in changes:
                    yield inventory.with_health(unhealthy)
    except errors.DeviceError as error:
        yield _without_gpus(Absence.FAILED, error)
    finally:
        driver.close()


def _without_gpus(absence: Absence, error: errors.DeviceError) -> Inventory:
    return Inventory(
        Backend.NONE, absence=absence, detail="; ".join(filter(None, (error.message, error.remedy)))
    )
