"""Simulated GPUs: an inventory made from a string such as `H100:8`, so that the road works without GPUs.

How they are linked: boards on a base board with NVSwitches (SXM4 and later, superchips) form islands of
eight in which each pair has all of a board's NVLinks; older SXM boards form islands of four in which a
board's links are shared out evenly; other boards have no NVLink. AMD's OAM boards form islands of eight in
which each pair has one link of Infinity Fabric. Four GPUs share a CPU.
"""

from __future__ import annotations

import uuid as uuids
from dataclasses import dataclass, replace
from itertools import combinations

from gpuyard import errors
from gpuyard.devices.inventory import (
    AmdTraits,
    Backend,
    Device,
    DeviceNode,
    Inventory,
    Link,
    Mig,
    PcieLevel,
)
from gpuyard.gpus.catalogue import GpuModel, find_model, nearest
from gpuyard.gpus.mig_models import mig_geometry
from gpuyard.kube.wellknown import AMD

#: As many as a device plugin's list and a node's slots can sensibly show.
MOST_GPUS = 64
#: Of one yard: each node has an agent of its own, which is three processes.
MOST_NODES = 16

_NAMESPACE = uuids.UUID("5f0c8d3e-6a63-5d0a-9f0e-9b1f6d2f6c11")
_DRIVER_VERSION = "580.95.05"
_CUDA_VERSION = (13, 0)
#: Of the module amdgpu, as ROCm 7.1 brings it.
_AMD_DRIVER_VERSION = "6.16.6"
_GPUS_PER_CPU = 4
#: Compute units by model, from AMD's data sheets; each has four SIMDs.
_COMPUTE_UNITS = {
    "MI100": 120, "MI210": 104, "MI250X": 220, "MI300A": 228, "MI300X": 304, "MI308X": 80, "MI325X": 304,
    "MI350X": 256, "MI355X": 256,
}  # fmt: skip
#: AMD's render nodes are numbered from here.
_FIRST_RENDER_MINOR = 128


@dataclass(frozen=True)
class Simulation:
    """What to simulate: so many of one model."""

    model: GpuModel
    count: int

    def __str__(self) -> str:
        return f"{self.model.name}:{self.count}"


def parse_simulation(text: str) -> Simulation:
    """Reads `MODEL:COUNT` (`H100:8`) or `MODEL` for one.

    Raises:
        UsageError: the model isn't in the catalogue, or the count isn't 1 to 64.
    """
    name, _, count_text = text.partition(":")
    model = find_model(name)
    if model is None:
        near = nearest(name)
        raise errors.UsageError(
            f"can't simulate {text!r}: {name!r} is no GPU model that gpuyard knows",
            remedy=f"did you mean {near}? Write {near}:8 for eight" if near else "for example H100:8",
        )
    count = int(count_text) if count_text.isascii() and count_text.isdigit() else 1 if text == name else 0
    if not 1 <= count <= MOST_GPUS:
        raise errors.UsageError(
            f"can't simulate {text!r}: {count_text!r} is no number of GPUs",
            remedy=f"write {model.name}:N with N from 1 to {MOST_GPUS}",
        )
    return Simulation(model, count)


def parse_simulations(text: str) -> tuple[Simulation, ...]:
    """Reads what each node of a yard simulates, in order: `H100:8,A100:4`; none of an empty text.

    Raises:
        UsageError: one of them isn't right, or there are too many.
    """
    found = tuple(parse_simulation(one.strip()) for one in text.split(",")) if text else ()
    if len(found) > MOST_NODES:
        raise errors.UsageError(
            f"can't simulate {len(found)} nodes on one machine", remedy=f"name at most {MOST_NODES}"
        )
    return found


def simulate(simulation: Simulation, *, seed: str) -> Inventory:
    """The inventory of a make-believe node; the same for the same `seed`, another for each other seed."""
    is_amd = simulation.model.vendor == AMD
    make = _amd_gpu if is_amd else _nvidia_gpu
    gpus = tuple(make(simulation.model, index, seed) for index in range(simulation.count))
    return Inventory(
        backend=Backend.SIMULATED,
        driver_version="" if is_amd else _DRIVER_VERSION,
        cuda_version=(0, 0) if is_amd else _CUDA_VERSION,
        devices=gpus,
        clique=_clique(simulation.model),
        links={
            (one.uuid, other.uuid): _link(simulation.model, one, other)
            for one, other in combinations(gpus, 2)
        },
    )


def _clique(model: GpuModel) -> str:
    """All simulated superchips of a model are in one rack, whose NVLink joins its nodes."""
    is_rack = model.form == "superchip" and model.nvlink and "NVL72" in "".join(model.spellings)
    return f"{uuids.uuid5(_NAMESPACE, model.name)}.1" if is_rack else ""


def _number(model: GpuModel, index: int, seed: str) -> uuids.UUID:
    return uuids.uuid5(_NAMESPACE, f"{seed}/{model.name}/{index}")


def _gpu(model: GpuModel, index: int, number: uuids.UUID, *paths: str) -> Device:
    """What GPUs of all makers have."""
    return Device(
        index=index,
        uuid=f"GPU-{number}",
        product=f"Simulated {model.product}",
        model=model.name,
        memory_mib=model.memory_mib,
        compute_capability=model.compute_capability or (0, 0),
        pci_bus_id=f"0000:{0x10 + index:02x}:00.0",
        numa_node=index // _GPUS_PER_CPU,
        minor=index,
        nodes=tuple(DeviceNode(path, "/dev/null") for path in paths),
    )


def _nvidia_gpu(model: GpuModel, index: int, seed: str) -> Device:
    return replace(
        _gpu(model, index, _number(model, index, seed), f"/dev/nvidia{index}"),
        mig=Mig() if mig_geometry(model.name) else None,
    )


def _amd_gpu(model: GpuModel, index: int, seed: str) -> Device:
    """As AMD's backend finds a real one: named and described as ROCm does."""
    # Few simulate these.
    from gpuyard.devices.amd.products import find_device_id, find_family

    units, minor = _COMPUTE_UNITS.get(model.name, 0), _FIRST_RENDER_MINOR + index
    can_split = model.family in {"cdna3", "cdna4"}
    paths = ("/dev/kfd", f"/dev/dri/card{index}", f"/dev/dri/renderD{minor}")
    number = _number(model, index, seed)
    return replace(
        _gpu(model, index, number, *paths),
        uuid=f"GPU-{number.hex[:16]}",
        minor=minor,
        vendor=AMD,
        amd=AmdTraits(
            device_id=find_device_id(model.product),
            family=find_family("gfx9") if model.family.startswith("cdna") else "",
            compute_units=units,
            simds=4 * units,
            partition="spx_nps1" if can_split else "",
            can_split_compute=can_split,
            can_split_memory=can_split,
            driver_version=_AMD_DRIVER_VERSION,
        ),
    )


def _link(model: GpuModel, one: Device, other: Device) -> Link:
    same_cpu = one.numa_node == other.numa_node
    if model.vendor == AMD:
        near = model.form == "OAM" and one.index // 8 == other.index // 8
        return Link(PcieLevel.SAME_CPU if same_cpu else PcieLevel.DIFFERENT_CPU, int(near))
    pcie = PcieLevel.HOST_BRIDGE if same_cpu else PcieLevel.DIFFERENT_CPU
    if not model.nvlink:
        return Link(pcie)
    switched = model.form not in {"SXM", "SXM2", "SXM3"}
    island = 8 if switched else 4
    if one.index // island != other.index // island:
        return Link(pcie)
    return Link(pcie, model.nvlink if switched else max(1, model.nvlink // (island - 1)))
