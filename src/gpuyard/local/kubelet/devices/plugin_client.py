"""The kubelet's side of one device plugin: its socket, its calls, its stream of devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gpuyard import errors
from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.local.kubelet.devices.checkpoint import ContainerAllocation, DeviceMount, DeviceSpec

_DIAL_S = 10.0
_PREFER_S = 1.0
_ALLOCATE_S = 5.0
_PRE_START_S = 30.0
_HEALTHY = "Healthy"


@dataclass(frozen=True)
class PluginDevice:
    """One device as its plugin describes it."""

    healthy: bool
    numa_nodes: tuple[int, ...]


class PluginClient:
    """A connection to one plugin. Open it with `connect`; `close` ends every call on it."""

    def __init__(self, resource: str, socket: Path) -> None:
        self.resource = resource
        self.socket = socket
        self.prefers = False
        self._pre_start = False
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}",
            options=[
                # A subchannel shared with a dead plugin on the same path would keep its back-off.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.initial_reconnect_backoff_ms", 100),
            ],
        )
        self._stub = rpc.DevicePluginStub(self._channel)

    async def connect(self) -> None:
        """Dials the plugin and asks for its options.

        Raises:
            DeviceError: nobody answers on the socket.
        """
        call = self._stub.GetDevicePluginOptions(pb.Empty(), timeout=_DIAL_S, wait_for_ready=True)
        options: pb.DevicePluginOptions = await self._answer("doesn't answer", call)
        self.prefers = options.get_preferred_allocation_available
        self._pre_start = options.pre_start_required

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def devices(self) -> AsyncIterator[Mapping[str, PluginDevice]]:
        """All devices of the plugin, now and after every change; ends when the stream does."""
        call = self._stub.ListAndWatch(pb.Empty())
        try:
            async for response in call:
                if response is None:
                    return
                yield {
                    device.ID: PluginDevice(
                        device.health == _HEALTHY, tuple(node.ID for node in device.topology.nodes)
                    )
                    for device in response.devices
                }
        except grpc.aio.AioRpcError:
            # However it ended, the plugin no longer vouches for its devices.
            return
        finally:
            call.cancel()

    async def prefer(self, available: Sequence[str], must: Sequence[str], count: int) -> Sequence[str]:
        """The plugin's choice of `count` devices.

        Raises:
            DeviceError: it has none, or doesn't answer in time.
        """
        request = pb.PreferredAllocationRequest(
            container_requests=[
                pb.ContainerPreferredAllocationRequest(
                    available_deviceIDs=available, must_include_deviceIDs=must, allocation_size=count
                )
            ]
        )
        call = self._stub.GetPreferredAllocation(request, timeout=_PREFER_S)
        response: pb.PreferredAllocationResponse = await self._answer(
            "doesn't say which devices it prefers", call
        )
        return [one for answer in response.container_responses for one in answer.deviceIDs]

    async def allocate(self, ids: Sequence[str]) -> ContainerAllocation:
        """Asks the plugin to prepare these devices for one container.

        Raises:
            DeviceError: it refuses, or doesn't answer in time.
        """
        request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
        call = self._stub.Allocate(request, timeout=_ALLOCATE_S)
        response: pb.AllocateResponse = await self._answer(f"doesn't allocate {', '.join(ids)}", call)
        if len(response.container_responses) != 1:
            raise errors.DeviceError(
                f"the device plugin of {self.resource} answered Allocate for one container with "
                f"{len(response.container_responses)} answers"
            )
        answer = response.container_responses[0]
        return ContainerAllocation(
            device_ids={self.resource: tuple(ids)},
            envs=dict(answer.envs),
            devices=tuple(DeviceSpec(d.container_path, d.host_path, d.permissions) for d in answer.devices),
            mounts=tuple(DeviceMount(m.container_path, m.host_path, m.read_only) for m in answer.mounts),
            cdi_devices=tuple(device.name for device in answer.cdi_devices),
            annotations=dict(answer.annotations),
        )

    async def pre_start(self, ids: Sequence[str]) -> None:
        """Tells the plugin that a container starts, when it asked to be told.

        Raises:
            DeviceError: it refuses, or doesn't answer in time.
        """
        if not self._pre_start:
            return
        request = pb.PreStartContainerRequest(devices_ids=ids)
        call = self._stub.PreStartContainer(request, timeout=_PRE_START_S)
        await self._answer("refuses the start of a container", call)

    async def _answer(self, fault: str, call: Awaitable[Any]) -> Any:
        try:
            response, why = await call, "its answer is no message"
        except grpc.aio.AioRpcError as error:
            response, why = None, f"{error.code().name}: {error.details()}"
        if response is None:  # That is gRPC's word for what can't be read, too.
            raise errors.DeviceError(
                f"the device plugin of {self.resource} at {self.socket} {fault}: {why}",
                remedy="see the plugin's log",
            )
        return response
