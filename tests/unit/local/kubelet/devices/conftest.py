import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.devices.gpu_locks import GpuLocks
from gpuyard.local.kubelet.devices.manager import DeviceCount, DeviceManager


class OtherPlugin(rpc.DevicePluginServicer):
    """A device plugin that shares nothing with gpuyard's own: it does as the test says.

    Attributes:
        devices: id → healthy.
        preferred: what it answers GetPreferredAllocation with; None to answer UNIMPLEMENTED.
        gate: Allocate waits for it.
        refuse: Allocate fails.
        allocated, prefer_calls, started: what it was asked, in order.
    """

    def __init__(self, folder: Path, resource: str, devices: Mapping[str, bool], endpoint: str) -> None:
        self.folder, self.resource, self.endpoint = folder, resource, endpoint
        self.devices = dict(devices)
        self.preferred: list[str] | None = None
        self.pre_start = False
        self.refuse = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self.allocated: list[list[str]] = []
        self.prefer_calls: list[tuple[list[str], list[str], int]] = []
        self.started: list[list[str]] = []
        self._streams: set[asyncio.Queue[bool]] = set()
        self._server: grpc.aio.Server | None = None

    async def serve(self) -> None:
        self._server = grpc.aio.server()
        rpc.add_DevicePluginServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.folder / self.endpoint}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def register(self, version: str = "v1beta1", resource: str = "", endpoint: str = "") -> None:
        async with grpc.aio.insecure_channel(
            f"unix:{self.folder / 'kubelet.sock'}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            await rpc.RegistrationStub(channel).Register(
                pb.RegisterRequest(
                    version=version,
                    endpoint=endpoint or self.endpoint,
                    resource_name=resource or self.resource,
                ),
                timeout=60,
            )

    def show(self, **health: bool) -> None:
        """Changes the health of devices and tells all streams."""
        self.devices.update(health)
        for stream in self._streams:
            stream.put_nowait(True)

    def end_streams(self) -> None:
        for stream in self._streams:
            stream.put_nowait(False)

    async def GetDevicePluginOptions(self, request: Any, context: Any) -> pb.DevicePluginOptions:
        return pb.DevicePluginOptions(
            get_preferred_allocation_available=self.preferred is not None, pre_start_required=self.pre_start
        )

    async def ListAndWatch(self, request: Any, context: Any) -> AsyncIterator[pb.ListAndWatchResponse]:
        stream: asyncio.Queue[bool] = asyncio.Queue()
        self._streams.add(stream)
        try:
            while True:
                yield pb.ListAndWatchResponse(
                    devices=[
                        pb.Device(
                            ID=name,
                            health="Healthy" if healthy else "Unhealthy",
                            topology=pb.TopologyInfo(nodes=[pb.NUMANode(ID=1)]),
                        )
                        for name, healthy in self.devices.items()
                    ]
                )
                if not await stream.get():
                    return
        finally:
            self._streams.discard(stream)

    async def GetPreferredAllocation(self, request: Any, context: Any) -> pb.PreferredAllocationResponse:
        (wish,) = request.container_requests
        self.prefer_calls.append(
            (list(wish.available_deviceIDs), list(wish.must_include_deviceIDs), wish.allocation_size)
        )
        return pb.PreferredAllocationResponse(
            container_responses=[pb.ContainerPreferredAllocationResponse(deviceIDs=self.preferred or [])]
        )

    async def Allocate(self, request: Any, context: Any) -> pb.AllocateResponse:
        self.waiting.set()
        await self.gate.wait()
        if self.refuse:
            await context.abort(grpc.StatusCode.INTERNAL, "the plugin says no")
        answers = []
        for wish in request.container_requests:
            ids = list(wish.devices_ids)
            self.allocated.append(ids)
            answers.append(
                pb.ContainerAllocateResponse(
                    envs={"OTHER": ",".join(ids)},
                    mounts=[pb.Mount(container_path="/opt/other", host_path="/tmp", read_only=True)],
                    devices=[
                        pb.DeviceSpec(container_path=f"/dev/{one}", host_path="/dev/null", permissions="r")
                        for one in ids
                    ],
                    annotations={"other": "yes"},
                    cdi_devices=[pb.CDIDevice(name=f"example.com/other={one}") for one in ids],
                )
            )
        return pb.AllocateResponse(container_responses=answers)

    async def PreStartContainer(self, request: Any, context: Any) -> pb.PreStartContainerResponse:
        self.started.append(list(request.devices_ids))
        return pb.PreStartContainerResponse()


class Node:
    """A device manager in folders of its own, and what belongs around it."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.plugins_dir = folder / "plugins"
        self.checkpoint = folder / "devices.json"
        self._stack = stack
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def manager(
        self, *, grace_s: float = 300.0, locks: GpuLocks | None = None
    ) -> AsyncIterator[DeviceManager]:
        manager = DeviceManager(
            self.plugins_dir,
            self.checkpoint,
            lambda: datetime(2026, 1, 2, tzinfo=UTC),
            grace_s=grace_s,
            locks=locks,
        )
        await manager.start()
        try:
            yield manager
        finally:
            await manager.stop()

    async def plugin(
        self, resource: str = "example.com/other", endpoint: str = "other.sock", **devices: bool
    ) -> OtherPlugin:
        """A second plugin, serving and not registered yet."""
        plugin = OtherPlugin(self.plugins_dir, resource, devices, endpoint)
        await plugin.serve()
        self._stack.push_async_callback(plugin.stop)
        return plugin

    async def agent(self, *arguments: str) -> asyncio.subprocess.Process:
        """Our own agent with four simulated GPUs, as a process."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gpuyard.agent", "--plugins-dir", str(self.plugins_dir)),
            *("--simulate", "H100:4", "--exit-with-stdin", *arguments),
            stdin=asyncio.subprocess.PIPE,
        )

        async def end() -> None:
            if process.returncode is None:
                process.kill()
            await process.wait()

        self._stack.push_async_callback(end)
        return process


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="gy-"))
    (folder / "plugins").mkdir()
    async with AsyncExitStack() as stack:
        yield Node(folder, stack)
    shutil.rmtree(folder)


async def wait_for_devices(
    manager: DeviceManager, capacity: int, allocatable: int, resource: str = "example.com/other"
) -> None:
    """Waits until a manager counts so many devices of a resource."""
    changed = asyncio.Event()
    manager.on_change(changed.set)
    async with asyncio.timeout(60):
        while manager.resources().get(resource) != DeviceCount(capacity, allocatable):
            await changed.wait()
            changed.clear()
