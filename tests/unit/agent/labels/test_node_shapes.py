"""Twelve kinds of nodes, and what is written of each: labels, and the CDI spec.

`GPUYARD_WRITE_GOLDEN=1` writes the files again; look at what changes in them.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard.agent.cdi import cdi_spec
from gpuyard.agent.labels.node import node_labels
from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.agent.served import MigStrategy, Serving, serve
from gpuyard.devices.amd.gpus import read_gpus
from gpuyard.devices.inventory import Backend, DeviceNode, Inventory
from gpuyard.devices.simulated.mig import split
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.catalogue import find_model
from tests.amd_machines import AmdMachine

FOLDER = Path(__file__).parent / "node_shapes"
CONTROL = DeviceNode("/dev/nvidiactl", "/dev/nvidiactl")
MADE_S = 1764374400
SINGLE, MIXED = Serving(MigStrategy.SINGLE), Serving(MigStrategy.MIXED)


def nvidia(simulation: str, *layouts: list[str]) -> Inventory:
    """As NVML would show them; each GPU split as its layout says."""
    found = simulate(parse_simulation(simulation), seed="golden")
    gpus = [
        replace(
            gpu,
            product=gpu.product.removeprefix("Simulated "),
            pci_class="0x030200",
            nodes=(DeviceNode(f"/dev/nvidia{gpu.index}", f"/dev/nvidia{gpu.index}"),),
        )
        for gpu in found.devices
    ]
    for index, layout in enumerate(layouts):
        parts, mistakes = split(gpus[index], layout)
        assert not mistakes
        gpus[index] = replace(gpus[index], mig=parts)
    return replace(
        found, backend=Backend.NVML, devices=tuple(gpus), common_nodes=(CONTROL,), machine="DGX A1 (golden)"
    )


def mixed_models() -> Inventory:
    one, other = nvidia("L40S:2"), nvidia("H100:2")
    moved = (replace(gpu, index=gpu.index + 2, minor=gpu.index + 2) for gpu in other.devices)
    return replace(one, devices=(*one.devices, *moved), links={**one.links, **other.links})


ALIKE = ["1g.10gb@0", "1g.10gb@1"]
NVIDIAS: dict[str, tuple[Inventory, Serving]] = {
    "t4": (nvidia("T4:1"), Serving()),
    "a100-40gb-8": (nvidia("A100-40GB:8"), Serving()),
    "h100-8-mig-mixed": (nvidia("H100:8", ["3g.40gb@0", "3g.40gb@4"], ["1g.10gb@0", "7g.80gb@0"][:1]), MIXED),
    "h100-2-mig-single": (nvidia("H100:2", ALIKE, ALIKE), SINGLE),
    "h100-2-mig-invalid": (nvidia("H100:2", ALIKE, ["3g.40gb@0"]), SINGLE),
    "a10-2-time-slicing": (
        nvidia("A10:2"), Serving(sharing=(Sharing(SharingStrategy.TIME_SLICING, 4, devices=("0",)),))
    ),
    "a10-2-mps": (nvidia("A10:2"), Serving(sharing=(Sharing(SharingStrategy.MPS, 4),))),
    "l40s-2-h100-2": (mixed_models(), Serving()),
    "gb300-4-clique": (nvidia("GB300:4"), Serving()),
    "simulated-h200-8": (simulate(parse_simulation("H200:8"), seed="golden"), Serving()),
}  # fmt: skip


def written(name: str, inventory: Inventory, serving: Serving) -> object:
    served = serve(inventory, serving)
    found = {"labels": dict(sorted(node_labels(served, MADE_S).items())), "cdi": cdi_spec(inventory)}
    if os.environ.get("GPUYARD_WRITE_GOLDEN"):
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def golden(name: str) -> object:
    return json.loads((FOLDER / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NVIDIAS)
def test_nvidia(name: str) -> None:
    assert written(name, *NVIDIAS[name]) == golden(name)


@pytest.mark.parametrize("name", ["mi300x", "radeon"])
def test_amd(name: str, tmp_path: Path) -> None:
    machine = AmdMachine(name, tmp_path)
    assert written(name, read_gpus(machine.sys_root, tmp_path), Serving()) == golden(name)


def test_models_of_the_catalogue_are_on_the_nodes() -> None:
    assert all(find_model(gpu.model) for inventory, _ in NVIDIAS.values() for gpu in inventory.devices)
