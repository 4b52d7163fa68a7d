"""Splitting the GPUs of this machine: those of its yard, or a cluster's node that one is logged in to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.mig_manager import SplitMachine, pods_by_device, real_machine, simulated_machine
from gpuyard.devices.mig_layout import GpuPlan, MigLayout
from gpuyard.local.paths import NodePaths, YardPaths
from gpuyard.local.settings import load_running, load_settings

#: The kubelet's of a cluster's node.
KUBELET_SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")


def node_paths(paths: YardPaths, node: str) -> NodePaths:
    """Paths of one node of this machine's yard.

    Raises:
        UsageError: it has no such node, or several, and none is named.
    """
    running = load_running(paths.running)
    return paths.of_node(running.number_of(node)) if running else paths


def open_machine(paths: YardPaths, driver_root: Path, node: str = "") -> AbstractContextManager[SplitMachine]:
    """The simulated GPUs of a node of this machine's yard, or its real ones.

    Raises:
        DeviceError: there are none.
        UsageError: it has no such node, or several, and none is named.
    """
    running, settings = load_running(paths.running), load_settings(paths.settings)
    if running is None or not settings.simulate:
        return real_machine(driver_root)
    from gpuyard.devices.simulated.simulation import parse_simulations

    number, names = running.number_of(node), list(running.agents)
    simulation = parse_simulations(settings.simulate)[number - 1]
    return simulated_machine(simulation, names[number - 1], paths.of_node(number).simulated_health)


def unoffered_parts(plans: Iterable[GpuPlan], paths: YardPaths) -> str:
    """What to do where the yard of this machine doesn't offer the parts that were made; empty else."""
    made = any(one.create or one.keep for one in plans)
    if not made or load_running(paths.running) is None:
        return ""
    settings = load_settings(paths.settings)
    configured = (json.loads(settings.gpu_config or "{}").get("flags") or {}).get("migStrategy")
    if (configured or settings.mig_strategy) != "none":
        return ""
    if configured:
        how = "`gpuyard down --keep`, then `gpuyard up` with flags.migStrategy: mixed in its --gpu-config"
    else:
        how = "`gpuyard down --keep && gpuyard up --mig-strategy mixed`"
    return f"The yard's MIG strategy is none, so it offers neither these parts nor their GPUs: {how}"


async def plan(
    machine: SplitMachine, layout: MigLayout, paths: NodePaths, kubelet: Path = KUBELET_SOCKET
) -> tuple[tuple[GpuPlan, ...], dict[str, str]]:
    """What would be done; and who has what now, by UUID.

    Raises:
        UsageError: the layout names what isn't there.
        DeviceError: it isn't known which pods have GPUs.
    """
    simulated = machine.inventory.simulated
    sockets = [*([] if simulated or not _has_kubelet(kubelet) else [kubelet])]
    sockets += [paths.pod_resources_socket] if _is_there(paths.pod_resources_socket) else []
    pods = await pods_by_device(sockets)
    return machine.plan(layout, pods), {**machine.users, **pods}


def _has_kubelet(socket: Path) -> bool:
    """Whether a cluster's kubelet is to be asked: its pods run on while it is down."""
    if not _is_there(socket) and _is_there(socket.parent):
        raise errors.DeviceError(
            f"it isn't known which pods have GPUs: no kubelet answers in {socket.parent}",
            remedy="start the kubelet; remove that folder where there is none any more",
        )
    return _is_there(socket)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise errors.DeviceError(
            f"it isn't known which pods have GPUs: can't look at {path}: {error.strerror}",
            remedy="run it as root",
        ) from error
    return True
