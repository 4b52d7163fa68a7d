"""What is asked of a cluster."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path

import pytest

from gpuyard.doctor.cluster_facts import look_at_cluster
from gpuyard.doctor.progress import Progress
from gpuyard.doctor.registry import RegistryFact

KNOWN = {"major": "1", "minor": "34", "status": {"userInfo": {"username": "ann"}}}


async def test_an_interrupt_leaves_no_question_behind(tmp_path: Path) -> None:
    """More are waiting for their turn than are asked at once; warnings are errors here."""
    busy, over = asyncio.Event(), asyncio.Event()
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if len(asked) > 2:
            busy.set()
            await over.wait()
        content = json.dumps(KNOWN).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content))
        writer.write(content)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        config = {
            "clusters": [{"name": "gpu", "cluster": {"server": address}}],
            "contexts": [{"name": "gpu", "context": {"cluster": "gpu"}}],
        }
        file = tmp_path / "config"
        file.write_text(json.dumps(config))
        environ = {"KUBECONFIG": str(file)}
        task = asyncio.create_task(look_at_cluster("gpu", "ml", RegistryFact(), environ, Progress()))
        await busy.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        over.set()
    gc.collect()
