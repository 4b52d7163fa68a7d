from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from gpuyard.local.service_proxy.endpoints import ServiceReplica
from gpuyard.local.service_proxy.figures import Figures
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.service_port import PortProxy

#: Nothing here waits for these; what is waited for is told by sockets.
_LIMITS = ProxyLimits(refused_s=0.02, drain_s=0.2)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Head and body of a request; empty at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    if b"transfer-encoding: chunked" in head.lower():
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += await reader.readuntil(b"\r\n")
        return head + body
    return head + (await reader.readexactly(length) if length else b"")


@dataclass
class FakeReplica:
    """A program at a port, which does with each connection what it is told."""

    behave: Behave
    name: str = "replica"
    requests: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    port: int = 0
    server: asyncio.Server | None = None

    @property
    def replica(self) -> ServiceReplica:
        return ServiceReplica(self.name, "127.0.0.1", self.port)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            await self.behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def stop(self) -> None:
        """Takes no more connections; those that are open stay."""
        assert self.server is not None
        self.server.close()


class Backend:
    """Makes replicas."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def start(self, behave: Behave, name: str = "replica") -> FakeReplica:
        replica = FakeReplica(behave, name)
        server = await asyncio.start_server(replica.accept, "127.0.0.1", 0)
        replica.server, replica.port = server, server.sockets[0].getsockname()[1]

        async def end() -> None:
            server.close()
            for writer in replica.writers:
                writer.transport.abort()

        self._stack.push_async_callback(end)
        return replica

    async def answering(self, answer: bytes = OK, name: str = "replica") -> FakeReplica:
        """One that gives the same answer to every request."""

        async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while request := await read_request(reader):
                replica.requests.append(request)
                writer.write(answer)
                await writer.drain()

        replica = await self.start(behave, name)
        return replica


class Client:
    """A connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def abort(self) -> None:
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> bytes:
        """Head and body of an answer that has a length."""
        return await read_request(self.reader)

    async def ask(self, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> bytes:
        self.send(request)
        return await self.answer()

    async def rest(self) -> bytes:
        """All that comes until the proxy closes; what was lost by a reset is left out."""
        found = b""
        try:
            while data := await self.reader.read(65536):
                found += data
        except ConnectionResetError:
            pass
        return found


@dataclass
class Proxy:
    port: int
    proxy: PortProxy
    stack: AsyncExitStack

    @property
    def figures(self) -> Figures:
        return self.proxy.figures

    def ready(self, *replicas: FakeReplica) -> None:
        self.proxy.set_ready([replica.replica for replica in replicas])

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        client = Client(reader, writer)
        self.stack.callback(client.abort)
        return client

    async def ask(self, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> bytes:
        return await (await self.connect()).ask(request)


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with AsyncExitStack() as stack:
        yield Backend(stack)


@asynccontextmanager
async def running_proxy(**limits: float) -> AsyncIterator[Proxy]:
    async with AsyncExitStack() as stack:
        proxy = PortProxy(
            Figures(asyncio.get_running_loop().time()),
            replace(_LIMITS, **limits),  # type: ignore[arg-type]
        )
        port = await proxy.listen("127.0.0.1", 0)
        stack.push_async_callback(proxy.close)
        yield Proxy(port, proxy, stack)


@pytest.fixture
async def proxy(backend: Backend) -> AsyncIterator[Proxy]:
    async with running_proxy() as proxy:
        yield proxy


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
