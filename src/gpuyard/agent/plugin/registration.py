"""Keeps the plugin of a resource known to the kubelet, whatever happens to the kubelet and to the sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from gpuyard import errors
from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.agent.plugin.server import Plugin
from gpuyard.agent.plugin.sockets import OwnSockets

_API_VERSION = "v1beta1"
#: A kubelet that starts removes every socket of the folder and makes its own: looking at two files five
#: times a second is cheap, and quick enough to be back within a second.
_LOOK_S = 0.2
#: The kubelet dials back inside Register and gives that 10 s.
_REGISTER_S = 12.0
_LAST_LIST_S = 1.0
_RETRY_S = 0.5
_RETRY_MAX_S = 10.0
#: After Register the kubelet opens ListAndWatch. One that holds no stream has forgotten us.
_NO_STREAM_S = 2.0
#: Kubelets 1.34 and 1.35 drop whoever is registered when the stream of a predecessor ends: they close ours,
#: and mark what is registered a moment later. Whoever registers in between is marked, and never asked again.
_LOST_STREAM_S = 0.1
_LOG = logging.getLogger(__name__)
#: Where gRPC says what went wrong in a call.
_GRPC_LOG = "grpc._cython.cygrpc"

#: Tells one kubelet.sock from the next on the same path.
_Identity = tuple[int, int, int]


async def keep_registered(
    plugin: Plugin,
    plugins_dir: Path,
    sockets: OwnSockets,
    *,
    on_registered: Callable[[], None] = lambda: None,
) -> None:
    """Serves the plugin and registers it, again whenever the kubelet has lost it.

    Runs until cancelled, or until the plugin has no devices any more and the kubelet has heard that.

    Each round serves on a fresh socket, and only then registers. Once another agent has come after this one,
    it serves whoever still asks, and leaves the rest to that one for as long as it is there.
    """
    retry_s = _RETRY_S
    while not plugin.is_over:
        while sockets.is_superseded():
            await asyncio.sleep(_LOOK_S)
        kubelet = await _kubelet(plugins_dir)
        try:
            async with _serving(plugin, sockets) as socket:
                await _register(plugin, socket)
                sockets.remove_earlier()
                _LOG.info("registered %s with the kubelet", plugin.resource)
                on_registered()
                retry_s = _RETRY_S
                reason = await _forgotten(plugin, socket, sockets, kubelet)
            _LOG.info("the kubelet doesn't know %s any more: %s", plugin.resource, reason)
        except errors.DeviceError as error:
            _LOG.warning("%s; trying again in %.1f s", error.message, retry_s)
            await _pause(plugins_dir, kubelet, retry_s)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)


async def _kubelet(plugins_dir: Path) -> _Identity:
    while True:
        if found := _identity(plugins_dir):
            return found
        await asyncio.sleep(_LOOK_S)


async def _forgotten(plugin: Plugin, socket: Path, sockets: OwnSockets, kubelet: _Identity) -> str:
    """Returns, with the reason, once the kubelet that we registered with no longer knows us."""
    loop = asyncio.get_running_loop()
    last_stream, patience_s = loop.time(), _NO_STREAM_S
    while True:
        if plugin.is_over and not plugin.streams:
            return "it has no devices any more"
        if plugin.streams:
            last_stream, patience_s = loop.time(), _LOST_STREAM_S
        if sockets.is_superseded():
            last_stream, patience_s = loop.time(), _NO_STREAM_S
        elif _identity(socket.parent) != kubelet:
            return "the kubelet's socket is gone or another one"
        elif not socket.exists():
            return "our socket was removed"
        # The looks above may take a while on a busy machine: that is no time without a stream.
        elif not plugin.streams and loop.time() - last_stream > patience_s:
            return "the kubelet holds no stream"
        await plugin.stream_ends(_LOOK_S if plugin.streams else _LOST_STREAM_S)


async def _pause(plugins_dir: Path, kubelet: _Identity, pause_s: float) -> None:
    """Waits before the next try, but not once there is another kubelet to try with."""
    for _ in range(round(pause_s / _LOOK_S)):
        if _identity(plugins_dir) != kubelet:
            return
        await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def _serving(plugin: Plugin, sockets: OwnSockets) -> AsyncIterator[Path]:
    socket = sockets.new()
    logging.getLogger(_GRPC_LOG).addFilter(_without_traceback)
    server = grpc.aio.server()
    rpc.add_DevicePluginServicer_to_server(plugin, server)
    try:
        try:
            server.add_insecure_port(f"unix:{socket}")
        except (OSError, RuntimeError) as error:
            raise errors.DeviceError(f"the device plugin can't listen on {socket}: {error}") from error
        await server.start()
        yield socket
    finally:
        # What was said last is to be read before the end of the connection.
        await server.stop(grace=_LAST_LIST_S if plugin.is_over else None)
        sockets.remove(socket)


def _without_traceback(record: logging.LogRecord) -> bool:
    """What is no message is its sender's mistake: ten lines of each would fill a disk."""
    if record.exc_info and isinstance(record.exc_info[1], DecodeError):
        record.exc_info = None
    return True


async def _register(plugin: Plugin, socket: Path) -> None:
    kubelet = socket.with_name("kubelet.sock")
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"unix:{kubelet}", options) as channel:
        request = pb.RegisterRequest(
            version=_API_VERSION,
            endpoint=socket.name,
            resource_name=plugin.resource,
            options=plugin.options(),
        )
        try:
            await rpc.RegistrationStub(channel).Register(request, timeout=_REGISTER_S)
        except grpc.aio.AioRpcError as error:
            raise errors.DeviceError(
                f"the kubelet at {kubelet} doesn't take the device plugin of {plugin.resource}: "
                f"{error.code().name}: {error.details()}"
            ) from error


def _identity(plugins_dir: Path) -> _Identity | None:
    try:
        found = (plugins_dir / "kubelet.sock").stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino, found.st_ctime_ns)
