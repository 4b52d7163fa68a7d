"""The gRPC service of a resource: what there is of it, what to prefer, how to hand it over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import grpc

from gpuyard import errors
from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.agent.options.device_lists import PLAIN, Handover
from gpuyard.agent.plugin.handover import hand_over
from gpuyard.agent.plugin.mps import MpsFolders
from gpuyard.agent.plugin.preferred import prefer, prefer_parts
from gpuyard.agent.served import Served, ServedDevice

Scrub: TypeAlias = Callable[[Sequence[ServedDevice]], Awaitable[None]]

_MAX_WHY = 500
#: Answers that are kept, of a few kB each: a node's pods ask for the same GPUs again and again.
_MAX_ANSWERS = 256
HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"


async def _abort(context: Any, code: grpc.StatusCode, why: str) -> None:
    """Ends a call. A text of more than 16 KiB would end the stream instead, and nobody would read it."""
    await context.abort(code, why if len(why) <= _MAX_WHY else f"{why[:_MAX_WHY]}…")


def describe(devices: Iterable[ServedDevice]) -> pb.ListAndWatchResponse:
    """The devices of a resource as the kubelet lists them."""
    return pb.ListAndWatchResponse(
        devices=[
            pb.Device(
                ID=device.id,
                health=HEALTHY if device.usable else UNHEALTHY,
                topology=None
                if device.gpu.numa_node is None
                else pb.TopologyInfo(nodes=[pb.NUMANode(ID=device.gpu.numa_node)]),
            )
            for device in devices
        ]
    )


class Plugin(rpc.DevicePluginServicer):
    """Serves one resource of what it was last given. It belongs to one event loop.

    Args:
        resource: its name, as pods ask for it.
        served: what the node offers now.
        handover: how devices are named to what runs containers.
        find_fault: why none can be handed over now; empty when they can.
        find_mps: see `MpsDaemons.folders`.
        scrub: what is done to devices before a container starts on them; None for nothing.

    Attributes:
        streams: ListAndWatch calls that are open now; the kubelet holds one as long as it knows us.
    """

    def __init__(
        self,
        resource: str,
        served: Served,
        *,
        handover: Handover = PLAIN,
        find_fault: Callable[[], str] = lambda: "",
        find_mps: Callable[[ServedDevice], MpsFolders | None] = lambda device: None,
        scrub: Scrub | None = None,
    ) -> None:
        self.resource = resource
        self._served = served
        self._answers: dict[frozenset[str], pb.ContainerAllocateResponse] = {}
        self._handover = handover
        self._find_fault = find_fault
        self._find_mps = find_mps
        self._scrub = scrub
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self.streams = 0

    def options(self) -> pb.DevicePluginOptions:
        """Which of the optional calls are worth making."""
        return pb.DevicePluginOptions(
            get_preferred_allocation_available=True, pre_start_required=self._handover.checks_starts
        )

    @property
    def is_over(self) -> bool:
        """Whether the node has nothing of it any more."""
        return not self._devices

    @property
    def _devices(self) -> tuple[ServedDevice, ...]:
        return self._served.resources.get(self.resource, ())

    async def stream_ends(self, timeout_s: float) -> None:
        """Returns at the end of a ListAndWatch call since the last time, or after the timeout."""
        # wait_for of Python 3.11 loses a cancellation that comes with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        self._ended.clear()

    def update(self, served: Served) -> None:
        """Shows what is offered now; open streams get it at once, and end with a resource that is no more."""
        self._served = served
        self._answers = {}
        self._changed.set()
        self._changed = asyncio.Event()

    async def GetDevicePluginOptions(self, request: pb.Empty, context: Any) -> pb.DevicePluginOptions:
        """As `options`."""
        return self.options()

    async def ListAndWatch(self, request: pb.Empty, context: Any) -> AsyncIterator[pb.ListAndWatchResponse]:
        """All devices with their health, now and after each change; ends once there are none."""
        self.streams += 1
        try:
            while True:
                changed, devices = self._changed, self._devices
                yield describe(devices)
                if not devices:
                    return
                await changed.wait()
        finally:
            self.streams -= 1
            self._ended.set()

    async def GetPreferredAllocation(
        self, request: pb.PreferredAllocationRequest, context: Any
    ) -> pb.PreferredAllocationResponse:
        """The best devices out of those that the kubelet has free."""
        answers = []
        for wish in request.container_requests:
            try:
                chosen = self._prefer(
                    wish.available_deviceIDs, wish.must_include_deviceIDs, wish.allocation_size
                )
            except ValueError as error:
                await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
            answers.append(pb.ContainerPreferredAllocationResponse(deviceIDs=chosen))
        return pb.PreferredAllocationResponse(container_responses=answers)

    def _prefer(self, available: Iterable[str], must: Iterable[str], size: int) -> list[str]:
        devices = self._devices
        if all(device.id == device.gpu.uuid for device in devices):
            return prefer(self._served.inventory, available, must, size)
        return prefer_parts(devices, available, must, size, packed=self._served.serving.packed)

    async def Allocate(self, request: pb.AllocateRequest, context: Any) -> pb.AllocateResponse:
        """Environment and device nodes for containers; INVALID_ARGUMENT for devices that aren't here,
        UNAVAILABLE while there is no spec by which a container could get them."""
        if fault := self._find_fault():
            await _abort(context, grpc.StatusCode.UNAVAILABLE, fault)
        try:
            return pb.AllocateResponse(
                container_responses=[self._hand_over(wish.devices_ids) for wish in request.container_requests]
            )
        except ValueError as error:
            await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except errors.DeviceError as error:
            await _abort(context, grpc.StatusCode.UNAVAILABLE, error.message)
        raise AssertionError("abort returns by raising")

    def _hand_over(self, ids: Sequence[str]) -> pb.ContainerAllocateResponse:
        # In whatever order the kubelet names them.
        chosen = frozenset(ids)
        if (answer := self._answers.get(chosen)) and len(chosen) == len(ids):
            return answer
        by_id = {device.id: device for device in self._devices}
        if unknown := sorted(chosen - by_id.keys()):
            raise ValueError(f"this node has no {self.resource} {', '.join(unknown)}")
        if len(chosen) != len(ids):
            raise ValueError("a device is named twice")
        devices = [by_id[one] for one in ids]
        shared = [device.sharing for device in devices if device.sharing]
        if len(ids) > 1 and any(rule.one_at_most for rule in shared):
            raise ValueError(
                f"a container can have one {self.resource}, not {len(ids)}: they are shared, and two may be "
                "of the same GPU"
            )
        mps = [found for device in devices if (found := self._find_mps(device))]
        answer = hand_over(self._served.inventory, devices, self._handover, mps=mps[0] if mps else None)
        # A daemon of MPS comes and goes, and an annotation's key is one container's.
        if not shared and not answer.annotations and len(self._answers) < _MAX_ANSWERS:
            self._answers[chosen] = answer
        return answer

    async def PreStartContainer(
        self, request: pb.PreStartContainerRequest, context: Any
    ) -> pb.PreStartContainerResponse:
        """FAILED_PRECONDITION for a device that is gone or can't be used, where starts are checked."""
        by_id = {device.id: device for device in self._devices}
        for one in request.devices_ids if self._handover.checks_starts else ():
            if one not in by_id:
                await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, f"{one} isn't there any more")
            if not (health := by_id[one].health).ok:
                gpu = f"GPU {by_id[one].gpu.index} ({one})"
                await _abort(
                    context, grpc.StatusCode.FAILED_PRECONDITION, f"{gpu} can't be used: {health.reason}"
                )
        if self._scrub and not self._served.inventory.simulated:
            try:
                await self._scrub([by_id[one] for one in request.devices_ids])
            except errors.DeviceError as error:
                await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, error.message)
        return pb.PreStartContainerResponse()
