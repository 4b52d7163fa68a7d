"""A yard's metrics over a real socket; a cluster's proxy is tested on a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpuyard.client.rest import RestApi
from gpuyard.runs.nodes import agent_metrics
from gpuyard.runs.nodes.agent_metrics import AgentMetrics, by_node
from gpuyard.runs.target import Target

from .layouts import pod

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(folder: Path, serve: Serve) -> AsyncIterator[Target]:
    """A yard whose socket answers so."""
    server = await asyncio.start_unix_server(serve, folder / "api.sock")
    async with server, RestApi(unix_socket=folder / "api.sock") as api:
        yield Target(api, "default", is_yard=True)


def saying(status: str, text: str) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /metrics HTTP/1.1\r\n")
        head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write(f"{head}{text}".encode())
        writer.close()

    return serve


async def failure(target: Target) -> str:
    metrics = AgentMetrics(target)
    await metrics.ask(["vm"], [])
    assert metrics.of("vm").samples == ()
    return metrics.of("vm").failure


async def test_a_yard_is_asked_by_its_api(folder: Path) -> None:
    async with serving(folder, saying("200 OK", "m 1\n")) as target:
        metrics = AgentMetrics(target)
        await metrics.ask(["vm"], [])
    assert [sample.name for sample in metrics.of("vm").samples] == ["m"] and metrics.of("vm").failure == ""


async def test_what_cannot_be_had_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(
        folder, saying("503 No", '{"kind":"Status","message":"the exporter is silent"}')
    ) as yard:
        assert "the exporter is silent" in await failure(yard)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(agent_metrics, "_ANSWER_S", 0.05)
    (folder / "api.sock").unlink(missing_ok=True)
    async with serving(folder, silent) as yard:
        assert await failure(yard)


async def test_an_endless_answer_is_not_read_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_metrics, "_MOST_BYTES", 1 << 20)
    async with serving(folder, saying("200 OK", "m 1\n" * (1 << 19))) as yard:
        assert await failure(yard) == "the answer to /metrics has more than 1 MiB"


async def test_one_that_was_asked_in_vain_keeps_for_a_while_what_it_said(folder: Path) -> None:
    answers = iter([saying("200 OK", "m 1\n"), saying("500 Oh", "")])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(answers)(reader, writer)

    async with serving(folder, serve) as target:
        metrics = AgentMetrics(target)
        for _ in range(2):
            await metrics.ask(["vm"], [])
            assert len(metrics.of("vm").samples) == 1


def test_each_node_s_agent_is_the_one_that_is_ready() -> None:
    old, new = (pod(name, "n") for name in ("old", "new"))
    old["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert by_node([old, new, pod("unbound", "")]) == {"n": old}
    assert by_node([new, old]) == {"n": old}
