"""The kubelet's half beside a plugin whose answers are no messages."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gpuyard import errors
from gpuyard.local.kubelet.devices.plugin_client import PluginClient


@pytest.fixture
def socket() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="gy-"))
    yield folder / "odd.sock"
    shutil.rmtree(folder)


async def garbage(request: bytes, context: Any) -> bytes:
    return b"\xff" * 100


async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"\xff" * 100


async def options(request: bytes, context: Any) -> bytes:
    return b"\x08\x01\x10\x01"  # Both optional calls are to be made.


async def test_a_plugin_that_answers_with_garbage_is_told_of_and_has_no_devices(socket: Path) -> None:
    server = grpc.aio.server()
    calls = ("GetPreferredAllocation", "Allocate", "PreStartContainer")
    methods: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(garbage) for name in calls}
    methods["GetDevicePluginOptions"] = grpc.unary_unary_rpc_method_handler(options)
    methods["ListAndWatch"] = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    client = PluginClient("example.com/odd", socket)
    try:
        await client.connect()
        assert [devices async for devices in client.devices()] == []
        for call in (client.prefer(["a"], [], 1), client.allocate(["a"]), client.pre_start(["a"])):
            with pytest.raises(errors.DeviceError, match=r"example\.com/odd.*its answer is no message"):
                await call
    finally:
        await client.close()
        await server.stop(grace=None)
