"""A yard's metrics over a real socket; a cluster's proxy is tested on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gpuyard.runs.nodes import agent_metrics
from gpuyard.runs.nodes.agent_metrics import AgentMetrics, agent_pods
from gpuyard.runs.target import Target
from gpuyard.tenancy.names import AGENT_LABELS

from .layouts import pod

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"


def saying(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /metrics HTTP/1.0\r\n")
        writer.write(answer)
        writer.close()

    return serve


async def failure(target: Target, address: str) -> str:
    metrics = AgentMetrics(target, address)
    await metrics.ask(["vm"], [])
    assert metrics.of("vm").samples == ()
    return metrics.of("vm").failure


async def test_a_yard_is_asked_on_loopback(target: Target) -> None:
    async with serving(saying(b"HTTP/1.0 200 OK\r\n\r\nm 1\n")) as address:
        metrics = AgentMetrics(target, address)
        await metrics.ask(["vm"], [])
    assert [sample.name for sample in metrics.of("vm").samples] == ["m"] and metrics.of("vm").failure == ""


async def test_what_cannot_be_had_is_said(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await failure(target, "") == "the yard serves no metrics (yet)"
    async with serving(saying(b"HTTP/1.0 500 Oh\r\n\r\n")) as address:
        assert "answers 'HTTP/1.0 500 Oh'" in await failure(target, address)
    # Nobody listens there any more.
    assert "Connect call failed" in await failure(target, address)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(agent_metrics, "_ANSWER_S", 0.05)
    async with serving(silent) as address:
        assert "doesn't answer within" in await failure(target, address)


async def test_one_that_was_asked_in_vain_keeps_for_a_while_what_it_said(target: Target) -> None:
    answers = iter([b"HTTP/1.0 200 OK\r\n\r\nm 1\n", b"HTTP/1.0 500 Oh\r\n\r\n"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(next(answers))(reader, writer)

    async with serving(serve) as address:
        metrics = AgentMetrics(target, address)
        for _ in range(2):
            await metrics.ask(["vm"], [])
            assert len(metrics.of("vm").samples) == 1


def test_each_node_s_agent_is_the_one_that_is_ready() -> None:
    old, new = (pod(name, "n", AGENT_LABELS) for name in ("old", "new"))
    old["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert agent_pods([old, new, pod("other", "n"), pod("unbound", "", AGENT_LABELS)]) == {"n": old}
    assert agent_pods([new, old]) == {"n": old}
