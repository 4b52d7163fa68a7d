"""The gRPC service that the kubelet calls: which GPUs there are, which to prefer, how to hand them over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any

import grpc

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.agent.cdi import qualified_name
from gpuyard.agent.plugin.preferred import prefer
from gpuyard.devices.inventory import Inventory
from gpuyard.kube.wellknown import ENV_SIMULATED

HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"


def describe(inventory: Inventory) -> pb.ListAndWatchResponse:
    """The GPUs as the kubelet lists them; the id of a device is the GPU's UUID."""
    return pb.ListAndWatchResponse(
        devices=[
            pb.Device(
                ID=gpu.uuid,
                health=HEALTHY if gpu.health.ok else UNHEALTHY,
                topology=None
                if gpu.numa_node is None
                else pb.TopologyInfo(nodes=[pb.NUMANode(ID=gpu.numa_node)]),
            )
            for gpu in inventory.devices
        ]
    )


def hand_over(
    inventory: Inventory, uuids: Iterable[str], *, by_cdi: bool = False
) -> pb.ContainerAllocateResponse:
    """What a container needs to use these GPUs and no others.

    Device nodes are named both ways: a runtime that knows CDI takes each once, one that doesn't has them too.

    Args:
        inventory: of this node.
        uuids: of the GPUs.
        by_cdi: whether there is a CDI spec of them, see `cdi`.

    Raises:
        KeyError: a UUID isn't in the inventory.
    """
    by_uuid = {gpu.uuid: gpu for gpu in inventory.devices}
    # In the driver's order, so that a process sees its GPUs as nvidia-smi lists them.
    gpus = sorted((by_uuid[uuid] for uuid in uuids), key=lambda gpu: gpu.index)
    visible = ",".join(gpu.uuid for gpu in gpus)
    envs = {"NVIDIA_VISIBLE_DEVICES": visible, "CUDA_VISIBLE_DEVICES": visible}
    if inventory.simulated:
        envs[ENV_SIMULATED] = "1"
    nodes = [*inventory.common_nodes, *(node for gpu in gpus for node in gpu.nodes)]
    return pb.ContainerAllocateResponse(
        envs=envs,
        devices=[
            pb.DeviceSpec(container_path=node.path, host_path=node.host_path, permissions="rw")
            for node in nodes
        ],
        cdi_devices=[pb.CDIDevice(name=qualified_name(gpu)) for gpu in gpus] if by_cdi else [],
    )


class Plugin(rpc.DevicePluginServicer):
    """Serves the inventory that it was last given. It belongs to one event loop.

    Args:
        inventory: the GPUs now.
        by_cdi: whether containers get their GPUs by CDI name, too.
        find_fault: why none can be handed over now; empty when they can.

    Attributes:
        streams: ListAndWatch calls that are open now; the kubelet holds one as long as it knows us.
    """

    def __init__(
        self, inventory: Inventory, *, by_cdi: bool = False, find_fault: Callable[[], str] = lambda: ""
    ) -> None:
        self._inventory = inventory
        self._by_cdi = by_cdi
        self._find_fault = find_fault
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self.streams = 0

    async def stream_ends(self, timeout_s: float) -> None:
        """Returns at the end of a ListAndWatch call since the last time, or after the timeout."""
        # wait_for of Python 3.11 loses a cancellation that comes with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        self._ended.clear()

    def update(self, inventory: Inventory) -> None:
        """Shows another inventory; open streams get it at once."""
        self._inventory = inventory
        self._changed.set()
        self._changed = asyncio.Event()

    async def GetDevicePluginOptions(self, request: pb.Empty, context: Any) -> pb.DevicePluginOptions:
        """Says which of the optional calls are worth making."""
        return pb.DevicePluginOptions(get_preferred_allocation_available=True)

    async def ListAndWatch(self, request: pb.Empty, context: Any) -> AsyncIterator[pb.ListAndWatchResponse]:
        """All GPUs with their health, now and after each change."""
        self.streams += 1
        try:
            while True:
                changed = self._changed
                yield describe(self._inventory)
                await changed.wait()
        finally:
            self.streams -= 1
            self._ended.set()

    async def GetPreferredAllocation(
        self, request: pb.PreferredAllocationRequest, context: Any
    ) -> pb.PreferredAllocationResponse:
        """The best GPUs out of those that the kubelet has free."""
        answers = []
        for wish in request.container_requests:
            try:
                chosen = prefer(
                    self._inventory,
                    wish.available_deviceIDs,
                    wish.must_include_deviceIDs,
                    wish.allocation_size,
                )
            except ValueError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            answers.append(pb.ContainerPreferredAllocationResponse(deviceIDs=chosen))
        return pb.PreferredAllocationResponse(container_responses=answers)

    async def Allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        """Environment and device nodes for containers; INVALID_ARGUMENT for GPUs that aren't here,
        UNAVAILABLE while there is no spec by which a container could get them."""
        if fault := self._find_fault():
            await context.abort(grpc.StatusCode.UNAVAILABLE, fault)
        known = {gpu.uuid for gpu in self._inventory.devices}
        for wish in request.container_requests:
            unknown = sorted(set(wish.devices_ids) - known)
            if unknown:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"this node has no GPU {', '.join(unknown)}"
                )
            if len(set(wish.devices_ids)) != len(wish.devices_ids):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a GPU is named twice")
        return pb.AllocateResponse(
            container_responses=[
                hand_over(self._inventory, wish.devices_ids, by_cdi=self._by_cdi)
                for wish in request.container_requests
            ]
        )

    async def PreStartContainer(
        self, request: pb.PreStartContainerRequest, context: Any
    ) -> pb.PreStartContainerResponse:
        """Never asked for in our options; harmless when called."""
        return pb.PreStartContainerResponse()
