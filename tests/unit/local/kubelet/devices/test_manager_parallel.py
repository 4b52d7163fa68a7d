"""50 pods at once ask for GPUs and for parts of GPUs, round after round, of a real agent over its sockets."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.gpus.resources import GPU_RESOURCE, mig_resource
from gpuyard.local.kubelet.devices.manager import ContainerAllocation, DeviceManager
from tests.waiting import until_async

from .conftest import Node, wait_for_devices

PODS = 50
#: A thousand with 250 repeats.
ROUNDS = 4 * int(os.environ.get("GPUYARD_TEST_REPEATS", "3"))
PART = mig_resource("1g.10gb")
#: Of each the capacity, and the most that a pod asks for.
OFFERED = {GPU_RESOURCE: (28, 3), PART: (28, 2)}


class Allotment:
    """What the pods of a round were given, and which of them got nothing."""

    def __init__(self) -> None:
        self.given: dict[str, dict[str, list[str]]] = {resource: {} for resource in OFFERED}
        self.refused: list[tuple[str, int]] = []

    def check(self) -> None:
        for resource, (capacity, _) in OFFERED.items():
            ids = [one for devices in self.given[resource].values() for one in devices]
            assert len(ids) == len(set(ids)), "two pods have one device"
            assert all(size > capacity - len(ids) for asked, size in self.refused if asked == resource)


async def ask(manager: DeviceManager, allotment: Allotment, pod: str, resource: str, size: int) -> None:
    try:
        allocation = await manager.allocate(pod, "default", pod, "main", {resource: size})
    except errors.DeviceError:
        allotment.refused.append((resource, size))
        return
    ids = list(allocation.device_ids[resource])
    assert len(ids) == size
    assert sorted(visible(allocation)) == sorted(ids), "the answer is about other devices"
    allotment.given[resource][pod] = ids


def visible(allocation: ContainerAllocation) -> list[str]:
    return allocation.envs["CUDA_VISIBLE_DEVICES"].split(",")


def open_things(pid: int) -> Mapping[str, int]:
    process = Path(f"/proc/{pid}")
    return {name: len(list((process / name).iterdir())) for name in ("fd", "task")}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that no disk is waited for."""
    with tempfile.TemporaryDirectory(prefix="gy-", dir="/dev/shm") as folder:
        yield Path(folder)


async def test_parallel_pods_never_share_a_device_and_leave_nothing_open(node: Node, memory: Path) -> None:
    node.checkpoint = memory / "devices.json"
    control = node.folder / "control.json"
    parts = [f"1g.10gb@{start}" for start in range(7)]
    control.write_text(json.dumps({"mig": {str(gpu): parts for gpu in range(4)}}))
    choose = random.Random(11)
    async with node.manager() as manager:
        process = await node.agent(
            *("--simulate", "H100:32", f"--simulated-health={control}", "--mig-strategy=mixed")
        )
        for resource, (capacity, _) in OFFERED.items():
            await wait_for_devices(manager, capacity, capacity, resource)
        before: Mapping[str, int] = {}
        for round_ in range(ROUNDS):
            allotment = Allotment()
            async with asyncio.TaskGroup() as group:
                for number in range(PODS):
                    resource = choose.choice(list(OFFERED))
                    size = choose.randint(1, OFFERED[resource][1])
                    group.create_task(ask(manager, allotment, f"{round_}-{number}", resource, size))
            allotment.check()
            assert allotment.refused, "a round in which all get something shows little"
            async with asyncio.TaskGroup() as group:
                for pod in [pod for pods in allotment.given.values() for pod in pods]:
                    group.create_task(manager.release(pod))
            before = before or open_things(process.pid)
        assert not manager.assignments()
        await until_async(
            lambda: open_things(process.pid),
            f"no more threads and descriptors than {before}",
            lambda now: all(now[name] <= before[name] for name in now),
        )
