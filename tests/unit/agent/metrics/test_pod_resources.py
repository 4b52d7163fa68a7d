"""The client of PodResources beside a kubelet that answers rightly, wrongly, slowly and not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gpuyard import errors
from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard.agent.metrics.holdings import Holding
from gpuyard.agent.metrics.pod_resources import PodResources
from tests.waiting import until_async

Answer = Callable[[bytes, Any], Awaitable[bytes]]


@asynccontextmanager
async def kubelet(socket: Path, answer: Answer) -> AsyncIterator[None]:
    """Serves List; what it answers are bytes."""
    server = grpc.aio.server()
    methods: dict[str, Any] = {"List": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", methods),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


async def rightly(request: bytes, context: Any) -> bytes:
    answer = pb.ListPodResourcesResponse()
    container = answer.pod_resources.add(name="train", namespace="team").containers.add(name="main")
    container.devices.add(resource_name="nvidia.com/gpu", device_ids=["GPU-1"])
    return answer.SerializeToString()


async def wrongly(request: bytes, context: Any) -> bytes:
    return b"\xff" * 100


async def cut_off(request: bytes, context: Any) -> bytes:
    return (await rightly(request, context))[:-3]


async def with_an_error(request: bytes, context: Any) -> bytes:
    raise RuntimeError("not today")


async def never(request: bytes, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


async def at_length(request: bytes, context: Any) -> bytes:
    return bytes(17 << 20)


@pytest.mark.parametrize("answer", [wrongly, cut_off, with_an_error, never, at_length])
async def test_what_is_no_answer_is_an_error_and_the_next_answer_counts(
    tmp_path: Path, answer: Answer
) -> None:
    socket = tmp_path / "kubelet.sock"
    client = PodResources(socket, limit_s=1.0)
    try:
        async with kubelet(socket, answer):
            for _ in range(3):
                with pytest.raises(errors.DeviceError, match="doesn't say which pods hold GPUs"):
                    await client.holdings()
        patient = PodResources(socket, limit_s=60.0)
        async with kubelet(socket, rightly):
            # A connection to the one before may be used once more.
            found = await until_async(patient.holdings, "it answers", not_yet=errors.DeviceError)
            assert found == (Holding("team", "train", "main", "nvidia.com/gpu", "GPU-1"),)
        await patient.close()
    finally:
        await client.close()


async def test_a_socket_of_something_else_is_an_error(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 1000)
        writer.close()

    socket = tmp_path / "kubelet.sock"
    client = PodResources(socket, limit_s=1.0)
    async with await asyncio.start_unix_server(talk, socket):
        with pytest.raises(errors.DeviceError, match="doesn't say"):
            await client.holdings()
    await client.close()
