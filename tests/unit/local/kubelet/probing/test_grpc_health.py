from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from gpuyard.local.kubelet.ports import free_port
from gpuyard.local.kubelet.probing.answer import ProbeResult
from gpuyard.local.kubelet.probing.grpc_health import check


@asynccontextmanager
async def _serving(answers: dict[bytes, bytes]) -> AsyncIterator[int]:
    """A server of health by the bytes of its messages; of others it has no such service."""

    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if request not in answers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return answers[request]

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    handlers = {"Check" if answers else "Else": handler}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("service", "result", "text"),
    [
        ("", ProbeResult.SUCCESS, "service healthy"),
        ("bad", ProbeResult.FAILURE, 'service unhealthy (responded with "NOT_SERVING")'),
        ("new", ProbeResult.FAILURE, 'service unhealthy (responded with "UNKNOWN")'),
        (
            "none",
            ProbeResult.FAILURE,
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
        ),
    ],
)
async def test_what_it_says_of_a_service(service: str, result: ProbeResult, text: str) -> None:
    async with _serving({b"": b"\x08\x01", b"\x0a\x03bad": b"\x08\x02", b"\x0a\x03new": b""}) as port:
        found = await check("127.0.0.1", port, service, 20)
    assert (found.result, found.text) == (result, text)


async def test_a_server_without_health() -> None:
    async with _serving({}) as port:
        found = await check("127.0.0.1", port, "", 20)
    assert found.text.startswith("error: this server does not implement the grpc health protocol")


async def test_nobody_listens() -> None:
    port = free_port()
    found = await check("127.0.0.1", port, "", 1)
    assert found.result is ProbeResult.FAILURE
    assert found.text.startswith(f'timeout: failed to connect service "127.0.0.1:{port}" within 1s')
