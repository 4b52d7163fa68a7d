"""Plugins of several resources, as a kubelet sees them come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard.agent.options.device_lists import PLAIN, Handover, suitable_lists
from gpuyard.agent.plugin.by_resource import Plugins
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import MigStrategy, Served, Serving, serve
from gpuyard.devices.inventory import Inventory, Mig, MigInstance
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_profiles import MigEngines
from tests.waiting import until_async

from .conftest import Kubelet

BY_CDI = Handover(suitable_lists(has_cdi=True, mounts_name_devices=False))
GPUS = simulate(parse_simulation("H100:2"), seed="node")
FIRST, SECOND = (gpu.uuid for gpu in GPUS.devices)


def part(place: int, profile: str) -> MigInstance:
    slices = int(profile[0])
    uuid = f"MIG-{place}"
    return MigInstance(place, uuid, profile, place, 0, place, 1, slices, slices, 9856, 16, MigEngines())


def split(*profiles: str) -> Served:
    """The first of two GPUs in these parts."""
    mig = Mig(True, True, tuple(part(*pair) for pair in enumerate(profiles)))
    first, second = GPUS.devices
    return serve(replace(GPUS, devices=(replace(first, mig=mig), second)), Serving(MigStrategy.MIXED))


class Watch:
    """Keeps what the kubelet heard last of each resource."""

    def __init__(self, kubelet: Kubelet) -> None:
        self.kubelet = kubelet
        self.resources: list[str] = []

    async def registers(self, *resources: str) -> None:
        while not set(resources) <= set(self.resources):
            request: pb.RegisterRequest = await asyncio.wait_for(self.kubelet.registered.get(), 60)
            self.resources.append(request.resource_name)

    async def lists(self, *ids: str) -> None:
        while True:
            listed: dict[str, str] = await asyncio.wait_for(self.kubelet.lists.get(), 60)
            if listed.keys() == set(ids):
                return


@asynccontextmanager
async def plugins(kubelet: Kubelet, **arguments: Any) -> AsyncIterator[Plugins]:
    options: dict[str, Any] = {
        "handover": PLAIN,
        "find_mps": lambda device: None,
        "scrub": None,
        "find_fault": lambda: "",
        "on_ready": lambda: None,
    } | arguments
    made: asyncio.Future[Plugins] = asyncio.get_running_loop().create_future()

    async def own() -> None:
        async with asyncio.TaskGroup() as group:
            made.set_result(Plugins(group, kubelet.folder, OwnSockets(kubelet.folder), **options))
            await asyncio.Event().wait()

    task = asyncio.create_task(own(), name="agent")
    try:
        yield await made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_resource_registers_on_a_socket_of_its_own(kubelet: Kubelet) -> None:
    ready = asyncio.Event()
    async with plugins(kubelet, on_ready=ready.set) as served:
        served.update(split("3g.40gb", "1g.10gb"))
        watch = Watch(kubelet)
        assert not ready.is_set()
        await watch.registers("nvidia.com/gpu", "nvidia.com/mig-3g.40gb", "nvidia.com/mig-1g.10gb")
        await asyncio.wait_for(ready.wait(), 60)
        assert len(watch.resources) == len(list(kubelet.folder.glob("gpuyard-*.sock"))) == 3


async def test_a_resource_that_is_no_more_is_listed_empty_and_its_socket_goes(kubelet: Kubelet) -> None:
    async with plugins(kubelet) as served:
        watch = Watch(kubelet)
        served.update(split("3g.40gb"))
        await watch.registers("nvidia.com/gpu", "nvidia.com/mig-3g.40gb")
        await watch.lists("MIG-0")
        served.update(split("1g.10gb"))
        await watch.lists()
        await watch.registers("nvidia.com/mig-1g.10gb")
        await until_async(lambda: len(list(kubelet.folder.glob("gpuyard-*.sock"))) == 2, "its socket is gone")
        served.update(split("3g.40gb"))
        watch.resources.clear()
        await watch.registers("nvidia.com/mig-3g.40gb")
        await watch.lists("MIG-0")


async def test_each_plugin_hands_over_what_is_of_its_resource(kubelet: Kubelet) -> None:
    async with plugins(kubelet, handover=BY_CDI) as served:
        served.update(split("1g.10gb"))
        await Watch(kubelet).registers("nvidia.com/mig-1g.10gb")
        plugin = kubelet.plugins["nvidia.com/mig-1g.10gb"]
        (given,) = (await plugin.Allocate(wish("MIG-0"))).container_responses
        assert dict(given.envs) == {
            "NVIDIA_VISIBLE_DEVICES": "MIG-0",
            "CUDA_VISIBLE_DEVICES": "MIG-0",
            "GPUYARD_SIMULATED": "1",
        }
        assert [device.name for device in given.cdi_devices] == ["gpuyard.io/gpu=MIG-0"]
        with pytest.raises(Exception, match="this node has no nvidia.com/mig-1g.10gb " + SECOND):
            await plugin.Allocate(wish(SECOND))


def wish(uuid: str) -> pb.AllocateRequest:
    return pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=[uuid])])


async def test_nothing_to_serve_is_ready_at_once(kubelet: Kubelet) -> None:
    ready = asyncio.Event()
    async with plugins(kubelet, on_ready=ready.set) as served:
        served.update(serve(Inventory(GPUS.backend)))
        assert ready.is_set()
