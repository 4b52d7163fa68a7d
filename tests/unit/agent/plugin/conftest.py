import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc


class Kubelet(rpc.RegistrationServicer):
    """As much of a kubelet as a plugin can tell: it dials back in Register and follows ListAndWatch.

    Attributes:
        registered: each accepted registration, in order.
        plugin, plugins: the one that registered last, and the last of each resource.
        lists: each list of devices that a plugin sent, as id → health.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registered: asyncio.Queue[pb.RegisterRequest] = asyncio.Queue()
        self.lists: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.refusals = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._channels: list[grpc.aio.Channel] = []
        self._server: grpc.aio.Server | None = None
        self.plugin: rpc.DevicePluginStub | None = None
        self.plugins: dict[str, rpc.DevicePluginStub] = {}

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        for socket in self.folder.glob("*.sock"):
            socket.unlink()
        self._server = grpc.aio.server()
        rpc.add_RegistrationServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.folder / 'kubelet.sock'}")
        await self._server.start()

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop(grace=None)
        await self.forget()
        for channel in self._channels:
            await channel.close()
        self._channels.clear()

    async def forget(self) -> None:
        """Ends the streams, as kubelets 1.34 do to the one that registered last, without telling anybody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        if self.refusals:
            self.refusals -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        channel = grpc.aio.insecure_channel(
            f"unix:{self.folder / request.endpoint}", [("grpc.use_local_subchannel_pool", 1)]
        )
        self._channels.append(channel)
        self.plugin = self.plugins[request.resource_name] = rpc.DevicePluginStub(channel)
        await self.plugin.GetDevicePluginOptions(pb.Empty(), timeout=60)
        self._tasks.append(asyncio.create_task(self._follow(self.plugin), name="follow"))
        self.registered.put_nowait(request)
        return pb.Empty()

    async def _follow(self, plugin: Any) -> None:
        call = plugin.ListAndWatch(pb.Empty())
        try:
            async for response in call:
                self.lists.put_nowait({device.ID: device.health for device in response.devices})
        except grpc.aio.AioRpcError:
            pass
        finally:
            call.cancel()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="gy-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def kubelet(folder: Path) -> AsyncIterator[Kubelet]:
    kubelet = Kubelet(folder)
    await kubelet.start()
    yield kubelet
    await kubelet.stop()
