"""A way to a cluster's API server on which connections break, as they do behind load balancers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK_BYTES = 4096


class CuttingProxy:
    """Carries TCP to the API server in a thread of its own.

    Attributes:
        limit_bytes: connections are cut after so many bytes from the server; None carries all of them.
        cuts: how many connections have been cut so far.
    """

    def __init__(self, server: str) -> None:
        self.limit_bytes: int | None = None
        self.cuts = 0
        self._far = urlsplit(server)
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = self._listening.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutting proxy")
        self._thread.start()

    def cut(self) -> None:
        """Cuts every connection there is, in the middle of whatever it carries."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def close(self) -> None:
        """Ends the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self.cuts += len(self._open)
        self._open.clear()

    async def _end(self) -> None:
        self._listening.close()
        await self._cut()
        await asyncio.gather(*self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._far.hostname, self._far.port)
            up = asyncio.create_task(_pump(reader, far_writer))
            await self._down(far_reader, writer)
            writer.transport.abort()
            await up
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried = 0
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                carried += len(data)
                if self.limit_bytes is not None and carried > self.limit_bytes:
                    self.cuts += 1
                    return
                if writer.transport.is_closing():
                    return
                writer.write(data)
                await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def cutting_proxy(kubeconfig: Path, folder: Path) -> Iterator[tuple[CuttingProxy, Path]]:
    """A proxy, and a copy of the kubeconfig that leads through it."""
    raw = json.loads(kubeconfig.read_text())
    there = raw["clusters"][0]["cluster"]
    proxy = CuttingProxy(there["server"])
    there["server"] = f"https://127.0.0.1:{proxy.port}"
    copy = folder / "kubeconfig"
    copy.write_text(json.dumps(raw))
    try:
        yield proxy, copy
    finally:
        proxy.close()
