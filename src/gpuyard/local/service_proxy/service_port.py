"""One port of a Service: it listens, and owns its clients' connections and its replicas."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from http import HTTPStatus

from gpuyard.local.service_proxy.client_connection import ClientConnection
from gpuyard.local.service_proxy.endpoints import ServiceReplica
from gpuyard.local.service_proxy.figures import Figures
from gpuyard.local.service_proxy.heads import ProxyRefusal, refusal_bytes
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.replicas import Replicas

_BACKLOG = 4096
_SWEEP_S = 1.0
_FULL = ProxyRefusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open: try again later", retry_after_s=5
)


class PortProxy:
    """Serves from `listen` until `close`.

    Args:
        figures: count its requests.
        limits: of what it may cost.
    """

    def __init__(self, figures: Figures, limits: ProxyLimits) -> None:
        self.figures = figures
        self.limits = limits
        self.replicas = Replicas(limits)
        self.is_draining = False
        self._connections: set[ClientConnection] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._all_left = asyncio.Event()

    async def listen(self, host: str, port: int) -> int:
        """Begins to take connections; the port, also where 0 let the kernel choose.

        Raises:
            OSError: the address can't be had.
        """
        loop = asyncio.get_running_loop()
        # In two steps: cut short in the second, it is ours to close already.
        self._server = await loop.create_server(
            self._protocol,
            host,
            port,
            family=socket.AF_INET,
            backlog=_BACKLOG,
            reuse_address=True,
            start_serving=False,
        )
        await self._server.start_serving()
        self._sweeper = asyncio.create_task(self._sweep(), name=f"sweep-{port}")
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def set_ready(self, replicas: Iterable[ServiceReplica]) -> None:
        """From now on new requests go to these."""
        self.replicas.set_ready(replicas)

    def left(self, connection: ClientConnection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_left.set()

    async def close(self) -> None:
        """Stops listening, refuses what waits, has the rest finished, and cuts what isn't in time."""
        if self._server is not None:
            self._server.close()
        self.is_draining = True
        for connection in list(self._connections):
            connection.drain()
        self.replicas.drain()
        try:
            async with asyncio.timeout(self.limits.drain_s):
                await self._until_all_left()
        except TimeoutError:
            for connection in list(self._connections):
                connection.transport.abort()
            await self._until_all_left()
        finally:
            self.replicas.close()
            if self._sweeper is not None:
                self._sweeper.cancel()
                await asyncio.gather(self._sweeper, return_exceptions=True)

    async def _until_all_left(self) -> None:
        while self._connections:
            self._all_left.clear()
            await self._all_left.wait()

    def _protocol(self) -> asyncio.Protocol:
        if len(self._connections) >= self.limits.connections:
            return _TurnedAway()
        connection = ClientConnection(self)
        self._connections.add(connection)
        return connection

    async def _sweep(self) -> None:
        """Looks at all times that are up once a second: a timer of each request would cost more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = loop.time()
            self.replicas.sweep(now)
            for connection in list(self._connections):
                connection.sweep(now)


class _TurnedAway(asyncio.Protocol):
    """A connection for which there is no place."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(refusal_bytes(_FULL, with_body=True, is_last=True))
        transport.close()
