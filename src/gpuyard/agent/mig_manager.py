"""This machine's GPUs as they can be split: what there is, who uses it, and the way to split it anew.

It is one side of what NVIDIA's MIG manager does; a running agent sees the change by itself and offers the new
parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.metrics.pod_resources import PodResources
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.mig_layout import GpuPlan, MigLayout, plan_layout
from gpuyard.devices.simulated.simulation import Simulation
from gpuyard.gpus.mig_models import mig_geometry
from gpuyard.gpus.mig_profiles import MigGeometry

#: Nobody is in a hurry here.
_ANSWER_LIMIT_S = 10.0


@dataclass(frozen=True)
class SplitMachine:
    """The GPUs of one machine.

    Attributes:
        inventory: what there is now.
        geometries: what each GPU can be split into, by UUID.
        apply: does what plans say; raises DeviceError when that fails.
        users: who has a GPU or a part of one beside the pods, for people, by UUID.
    """

    inventory: Inventory
    geometries: Mapping[str, MigGeometry]
    apply: Callable[[Sequence[GpuPlan]], None]
    users: Mapping[str, str] = field(default_factory=dict)

    def plan(self, layout: MigLayout, pods: Mapping[str, str]) -> tuple[GpuPlan, ...]:
        """What the layout asks for, where nobody loses a GPU: neither one of these pods, nor anybody else."""
        return plan_layout(layout, self.inventory, {**self.users, **pods}, self.geometries)


@contextlib.contextmanager
def simulated_machine(simulation: Simulation, seed: str, file: Path) -> Iterator[SplitMachine]:
    """Simulated GPUs, which the file splits; see `devices.simulated.state`."""
    from gpuyard.devices.simulated.simulation import simulate
    from gpuyard.devices.simulated.state import read_state, write_splits

    whole = simulate(simulation, seed=seed)
    state, _ = read_state(file, whole)
    inventory = whole.with_mig(state.mig)
    yield SplitMachine(inventory, _known_geometries(inventory), lambda plans: write_splits(file, plans))


@contextlib.contextmanager
def real_machine(driver_root: Path) -> Iterator[SplitMachine]:
    """The GPUs that NVML finds; what it doesn't tell, as to others than root, is the catalogue's.

    Raises:
        DeviceError: there is no driver, or no GPU.
    """
    from gpuyard.devices.nvml.library import Nvml
    from gpuyard.devices.nvml.mig_change import apply_to_driver, driver_geometries, processes_by_device

    with contextlib.closing(Nvml.open(driver_root)) as nvml:
        inventory = nvml.inventory()
        if not inventory.devices:
            raise errors.DeviceError(inventory.detail, remedy="see whether nvidia-smi lists the GPUs")
        geometries = {**_known_geometries(inventory), **driver_geometries(inventory)}
        users = {**processes_by_device(inventory), **_yards(inventory)}
        yield SplitMachine(inventory, geometries, apply_to_driver, users)


def _yards(inventory: Inventory) -> dict[str, str]:
    """Runs of any user's yard: who splits GPUs is root, and has no yard here."""
    from gpuyard.devices.gpu_locks import find_lock_folder, yard_holds

    uuids = [gpu.uuid for gpu in inventory.devices]
    uuids += [part.uuid for gpu in inventory.devices if gpu.mig for part in gpu.mig.instances]
    try:
        holds = yard_holds(folder, uuids) if (folder := find_lock_folder()) else {}
    except OSError as error:
        raise errors.DeviceError(
            f"it isn't known which GPUs runs of yards have: {error}", remedy="run it as root"
        ) from error
    return {
        uuid: " and ".join(f"run {one.run} of the yard of {one.user} ({one.home})" for one in those)
        for uuid, those in holds.items()
    }


def _known_geometries(inventory: Inventory) -> dict[str, MigGeometry]:
    return {gpu.uuid: found for gpu in inventory.devices if (found := mig_geometry(gpu.model))}


async def pods_by_device(sockets: Sequence[Path]) -> dict[str, str]:
    """Which pod has a GPU or a part of one, for people, by UUID.

    Args:
        sockets: PodResources of the kubelets of this machine.

    Raises:
        DeviceError: one of them doesn't say.
    """
    found = {}
    for socket in sockets:
        kubelet = PodResources(socket, _ANSWER_LIMIT_S)
        try:
            for each in await kubelet.holdings():
                found[each.uuid] = f"pod {each.namespace}/{each.pod}"
        finally:
            await kubelet.close()
    return found
