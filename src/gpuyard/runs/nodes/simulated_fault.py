"""Putting a fault on a simulated GPU or node of the yard, and waiting until the node says so."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.devices.simulated.fault_injection import set_fault
from gpuyard.gpus.faults import ECC, HOT, LOST, RAS, GpuFault, node_faults, xid
from gpuyard.gpus.resources import capacity_gpus, has_simulated_gpus, vendors_of
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.nodes import with_power, without_power
from gpuyard.kube.objects import NODES, Manifest, labels_of
from gpuyard.kube.wellknown import AMD, LABEL_GPU_COUNT
from gpuyard.local.paths import YardPaths
from gpuyard.local.settings import load_running
from gpuyard.runs.target import Target

RECOVERED = "recovered"
#: What a fault may be called beside the number of an XID; RECOVERED takes it away.
NAMED_FAULTS = {"lost": LOST, "hot": HOT, "ecc": ECC, RECOVERED: ""}
_LOOK_S = 0.1
_MAX_LOOKS = 100
_MAX_XID = 999


def fault_reason(text: str) -> str:
    """The reason that a fault on the command line is: `79` is `XID 79`; empty for RECOVERED.

    Raises:
        UsageError: there is no such fault, or it makes no GPU unhealthy.
    """
    from gpuyard.devices.nvml.health import IGNORED_XIDS

    if text in NAMED_FAULTS:
        return NAMED_FAULTS[text]
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 0 < number <= _MAX_XID:
        raise errors.UsageError(
            f"{text!r} is no fault",
            remedy=f"give the number of an XID such as 79, or one of {', '.join(NAMED_FAULTS)}",
        )
    if number in IGNORED_XIDS:
        raise errors.UsageError(
            f"XID {number} is a fault of the program on the GPU, which stays healthy",
            remedy="give one that is the GPU's, such as 79 (fallen off the bus) or 48 (double bit ECC error)",
        )
    return xid(number)


async def put_fault(
    target: Target, paths: YardPaths, name: str, gpu: int, reason: str
) -> tuple[Manifest, GpuFault | None]:
    """Puts it on the GPU; returns once the node says so: the node, and what it says of that GPU.

    Args:
        target: the yard.
        paths: the yard's.
        name: of the node; empty for the only one.
        gpu: index.
        reason: empty to take it away.

    Raises:
        UsageError: there is no such node or GPU, it is a real one, or GPUs of its maker have no such fault.
        YardError: the node doesn't follow.
    """
    node, number = await _simulated_node(target, paths, name)
    # Of AMD's no label says how many there are.
    count = int(labels_of(node).get(LABEL_GPU_COUNT, "0")) or capacity_gpus(node)
    if gpu >= count:
        raise errors.UsageError(
            f"there is no GPU {gpu}: node {node['metadata']['name']} has {count}",
            remedy=f"give an index from 0 to {count - 1}",
        )
    reason = for_maker(node, gpu, reason)
    before = _fault_of(node, gpu)
    file = paths.of_node(number).simulated_health
    set_fault(file, gpu, before.uuid if before else "", reason)
    for _ in range(_MAX_LOOKS):
        found = _fault_of(node, gpu)
        if (found.reason if found else "") == reason:
            return node, found
        await asyncio.sleep(_LOOK_S)
        node = await target.api.get(NODES, node["metadata"]["name"])
    raise errors.YardError(
        f"the file {file} has the fault, and the yard's node doesn't say so",
        remedy="see `gpuyard doctor`, and daemon.log in the data folder",
    )


async def switch_power(target: Target, paths: YardPaths, name: str, *, on: bool) -> Manifest:
    """Takes the power of a simulated node away, as a power cut does, or gives it back; returns the node once
    that is so.

    Args:
        target: the yard.
        paths: the yard's.
        name: of the node; empty for the only one.
        on: whether it is to have power.

    Raises:
        UsageError: there is no such node, or it is a real one.
        YardError: the node doesn't follow.
    """
    node, _ = await _simulated_node(target, paths, name)
    name = node["metadata"]["name"]
    while True:
        with suppress(errors.Conflict):
            await target.api.update(NODES, with_power(node) if on else without_power(node))
            break
        node = await target.api.get(NODES, name)
    for _ in range(_MAX_LOOKS):
        node = await target.api.get(NODES, name)
        if condition_is_true(node, "Ready") == on:
            return node
        await asyncio.sleep(_LOOK_S)
    raise errors.YardError(
        f"the node {name} was told to {'come up' if on else 'go down'}, and doesn't",
        remedy="see `gpuyard doctor`, and daemon.log in the data folder",
    )


def for_maker(node: Manifest, gpu: int, reason: str) -> str:
    """The fault as the GPU's maker has it.

    Raises:
        UsageError: it is an XID, which are NVIDIA's, and the GPU isn't.
    """
    if vendors_of([node]) != {AMD}:
        return reason
    if reason.startswith(xid(0)[:-1]):
        raise errors.UsageError(
            f"{reason} is a fault of NVIDIA's GPUs, and GPU {gpu} is AMD's, whose driver has no XIDs",
            remedy="give lost, hot or ecc: `gpuyard node fault --gpu N --xid ecc`",
        )
    return RAS if reason == ECC else reason


async def _simulated_node(target: Target, paths: YardPaths, name: str) -> tuple[Manifest, int]:
    """The node, and its number in the yard."""
    if not target.is_yard:
        raise errors.UsageError(
            "faults can be put on the simulated nodes of a yard only",
            remedy=advice("use --context yard, and `gpuyard up --simulate H100:8` where that has none"),
        )
    nodes = {node["metadata"]["name"]: node for node in (await target.api.list(NODES)).items}
    running = load_running(paths.running)
    number = running.number_of(name) if running else 1
    node = nodes.get(list(running.agents)[number - 1] if running else name)
    if node is None or not has_simulated_gpus(node):
        raise errors.UsageError(
            "this yard has no simulated GPUs, and a fault can be put on no other",
            remedy="restart it with some: `gpuyard down`, `gpuyard up --simulate H100:8`",
        )
    return node, number


def _fault_of(node: Manifest, gpu: int) -> GpuFault | None:
    return next((fault for fault in node_faults(node) if fault.index == gpu), None)
