"""Keeps the plugin known to the kubelet, whatever happens to the kubelet and to the sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio

from gpuyard import errors
from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.agent.plugin.server import Plugin
from gpuyard.gpus.resources import GPU_RESOURCE

ENDPOINT = "nvidia.sock"
_API_VERSION = "v1beta1"
#: A kubelet that starts removes every socket of the folder and makes its own: looking at two files five
#: times a second is cheap, and quick enough to be back within a second.
_LOOK_S = 0.2
#: The kubelet dials back inside Register and gives that 10 s.
_REGISTER_S = 12.0
_RETRY_S = 0.5
_RETRY_MAX_S = 10.0
#: After Register the kubelet opens ListAndWatch. One that holds no stream has forgotten us: kubelets 1.34
#: and 1.35 drop whoever is registered when the stream of a predecessor ends.
_NO_STREAM_S = 2.0
_LOG = logging.getLogger(__name__)

#: Tells one kubelet.sock from the next on the same path.
_Identity = tuple[int, int, int]


async def keep_registered(plugin: Plugin, plugins_dir: Path) -> None:
    """Serves the plugin and registers it, again whenever the kubelet has lost it. Runs until cancelled.

    Each round stops the old server fully, serves on a fresh socket, and only then registers.
    """
    retry_s = _RETRY_S
    while True:
        kubelet = await _kubelet(plugins_dir)
        try:
            async with _serving(plugin, plugins_dir / ENDPOINT):
                await _register(plugins_dir)
                _LOG.info("registered %s with the kubelet", GPU_RESOURCE)
                retry_s = _RETRY_S
                reason = await _forgotten(plugin, plugins_dir, kubelet)
            _LOG.info("registering again: %s", reason)
        except errors.DeviceError as error:
            _LOG.warning("%s; trying again in %.1f s", error.message, retry_s)
            await _pause(plugins_dir, kubelet, retry_s)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)


async def _kubelet(plugins_dir: Path) -> _Identity:
    while True:
        if found := _identity(plugins_dir):
            return found
        await asyncio.sleep(_LOOK_S)


async def _forgotten(plugin: Plugin, plugins_dir: Path, kubelet: _Identity) -> str:
    """Returns, with the reason, once the kubelet that we registered with no longer knows us."""
    loop = asyncio.get_running_loop()
    last_stream = loop.time()
    while True:
        if _identity(plugins_dir) != kubelet:
            return "the kubelet's socket is gone or another one"
        if not (plugins_dir / ENDPOINT).exists():
            return "our socket was removed"
        if plugin.streams:
            last_stream = loop.time()
        elif loop.time() - last_stream > _NO_STREAM_S:
            return "the kubelet holds no stream"
        await asyncio.sleep(_LOOK_S)


async def _pause(plugins_dir: Path, kubelet: _Identity, pause_s: float) -> None:
    """Waits before the next try, but not once there is another kubelet to try with."""
    for _ in range(round(pause_s / _LOOK_S)):
        if _identity(plugins_dir) != kubelet:
            return
        await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def _serving(plugin: Plugin, socket: Path) -> AsyncIterator[None]:
    server = grpc.aio.server()
    rpc.add_DevicePluginServicer_to_server(plugin, server)
    try:
        try:
            socket.unlink(missing_ok=True)
            server.add_insecure_port(f"unix:{socket}")
        except (OSError, RuntimeError) as error:
            raise errors.DeviceError(f"the device plugin can't listen on {socket}: {error}") from error
        await server.start()
        yield
    finally:
        await server.stop(grace=None)


async def _register(plugins_dir: Path) -> None:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"unix:{plugins_dir / 'kubelet.sock'}", options) as channel:
        request = pb.RegisterRequest(
            version=_API_VERSION,
            endpoint=ENDPOINT,
            resource_name=GPU_RESOURCE,
            options=pb.DevicePluginOptions(get_preferred_allocation_available=True),
        )
        try:
            await rpc.RegistrationStub(channel).Register(request, timeout=_REGISTER_S)
        except grpc.aio.AioRpcError as error:
            raise errors.DeviceError(
                f"the kubelet at {plugins_dir} doesn't take the device plugin: "
                f"{error.code().name}: {error.details()}"
            ) from error


def _identity(plugins_dir: Path) -> _Identity | None:
    try:
        found = (plugins_dir / "kubelet.sock").stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino, found.st_ctime_ns)
