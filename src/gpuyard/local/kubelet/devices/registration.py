"""The service that device plugins introduce themselves to (`v1beta1.Registration`)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from gpuyard import errors
from gpuyard._proto import device_plugin_pb2 as pb
from gpuyard._proto import device_plugin_pb2_grpc as rpc
from gpuyard.kube.names import is_extended_resource

API_VERSION = "v1beta1"
KUBELET_SOCKET = "kubelet.sock"
_LOG = logging.getLogger(__name__)


class Registration(rpc.RegistrationServicer):
    """Checks what a plugin says about itself before anything is dialled."""

    def __init__(self, register: Callable[[str, str], Awaitable[None]]) -> None:
        """`register` gets the resource and the endpoint, and raises DeviceError when nobody answers there."""
        self._register = register

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.Empty:
        """Answers when the plugin has been dialled back; INVALID_ARGUMENT for what can't be served."""
        if request.version != API_VERSION:
            problem = f"version {request.version!r} isn't served; this kubelet serves {API_VERSION!r}"
        elif not is_extended_resource(request.resource_name):
            problem = f"{request.resource_name!r} is no name of an extended resource, such as nvidia.com/gpu"
        elif request.endpoint != Path(request.endpoint).name or request.endpoint in {
            "",
            "..",
            KUBELET_SOCKET,
        }:
            problem = f"endpoint {request.endpoint!r} is no file name of a socket beside {KUBELET_SOCKET}"
        else:
            try:
                await self._register(request.resource_name, request.endpoint)
            except errors.DeviceError as error:
                await context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
            return pb.Empty()
        _LOG.warning("refused a device plugin: %s", problem)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        raise AssertionError("abort returns by raising")
