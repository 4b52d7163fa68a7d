from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

from gpuyard.agent.service import LabelTarget, keep_labelled


class Node:
    """An API with one node on a unix socket, whose labels can be patched."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        self.changed = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("patch"):
            body = await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
            self.labels |= json.loads(body)["metadata"].get("labels", {})
            self.changed.set()
        text = json.dumps({"metadata": {"name": "n", "labels": self.labels}}).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode())
        writer.write(text)
        await writer.drain()
        writer.close()


async def test_labels_that_are_lost_come_back() -> None:
    node, wanted = Node(), {"gpuyard.io/gpu-model": "H100"}
    queue: asyncio.Queue[tuple[dict[str, str], str]] = asyncio.Queue()
    queue.put_nowait((wanted, ""))
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder) / "api"
        async with await asyncio.start_unix_server(node.handle, socket), asyncio.timeout(30):
            keeping = asyncio.create_task(keep_labelled(LabelTarget("n", socket), queue, check_s=0.01))
            for _ in range(2):
                await node.changed.wait()
                node.changed.clear()
                assert node.labels == wanted
                # As when the node is deleted and registers itself anew.
                node.labels = {}
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
