"""Which replica a request goes to, and over which connection; who waits while none is ready."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from typing import Protocol

from gpuyard.local.service_proxy.balancer import Balancer
from gpuyard.local.service_proxy.endpoints import ServiceReplica
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.replica_connection import ReplicaConnection


class Waiter(Protocol):
    """A request that waits for a replica."""

    def look_again(self) -> None:
        """A replica may be ready now. The request has left the queue."""

    def waited_too_long(self) -> None:
        """None was, for as long as may be waited. The request has left the queue."""

    def must_not_wait(self) -> None:
        """Nothing waits any more. The request leaves the queue."""


class Replicas:
    """The replicas behind one port of a Service, the connections to them that are kept, and who waits.

    Endpoints that change end nothing that is under way. A replica that has left gets no new request, and
    its kept connections are closed.
    """

    def __init__(self, limits: ProxyLimits) -> None:
        #: Whether no request may wait.
        self.is_draining = False
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._balancer = Balancer(limits.refused_s)
        self._kept: dict[ServiceReplica, list[ReplicaConnection]] = {}
        #: By request the moment at which it is given up; the longest wait first.
        self._waiting: dict[Waiter, float] = {}
        self._waiting_bytes = 0
        self._waker: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> Mapping[ServiceReplica, int]:
        """Requests by replica."""
        return self._balancer.in_flight

    @property
    def waiting(self) -> int:
        """Requests that no replica has yet."""
        return len(self._waiting)

    def set_ready(self, replicas: Iterable[ServiceReplica]) -> None:
        """From now on new requests go to these."""
        self._balancer.set_ready(replicas)
        ready = set(self._balancer.ready)
        for replica in [one for one in self._kept if one not in ready]:
            for connection in self._kept.pop(replica):
                connection.close()
        if ready:
            self._wake()

    def begin(self) -> ServiceReplica | None:
        """The replica that has one more request from now on; None where none can be tried at the moment."""
        replica = self._balancer.choose(self._loop.time())
        if replica is not None:
            self._balancer.begin(replica)
        return replica

    def end(self, replica: ServiceReplica) -> None:
        """Its request has ended."""
        self._balancer.end(replica)

    def kept_connection(self, replica: ServiceReplica) -> ReplicaConnection | None:
        """An open connection that nobody uses; the caller's from now on."""
        connections = self._kept.get(replica)
        oldest = self._loop.time() - self._limits.kept_s
        while connections:
            connection = connections.pop()
            if connection.kept_since > oldest and connection.is_fresh():
                return connection
            connection.close()
        return None

    def keep(self, connection: ReplicaConnection) -> None:
        """The connection may carry another request."""
        if connection.replica in self._balancer.ready:
            connection.kept_since = self._loop.time()
            self._kept.setdefault(connection.replica, []).append(connection)
        else:
            connection.close()

    async def connect(self, replica: ServiceReplica) -> ReplicaConnection | None:
        """A new connection; None where the replica takes none, which has it left out for a moment."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(self._limits.connect_s):
                await self._loop.sock_connect(sock, (replica.host, replica.port))
                _, connection = await self._loop.create_connection(
                    lambda: ReplicaConnection(replica, sock, self._limits.answer_head_bytes), sock=sock
                )
        except (OSError, OverflowError, ValueError):  # a timeout; a port or a host that is none
            sock.close()
            self._balancer.note_refusal(replica, self._loop.time())
            return None
        except BaseException:
            sock.close()
            raise
        return connection

    def wait(self, waiter: Waiter, body_bytes: int, until: float) -> bool:
        """Has a request wait until `until`; says whether there is a place for it.

        Args:
            waiter: told when it is worth another look.
            body_bytes: that are kept for it; `grow` tells of more.
            until: of the loop's clock.
        """
        if len(self._waiting) >= self._limits.held or self._waiting_bytes > self._limits.held_bytes:
            return False
        self._waiting[waiter] = until
        self._waiting_bytes += body_bytes
        self._wake_in_time()
        return True

    def grow(self, waiter: Waiter, more_bytes: int) -> bool:
        """If it waits, more of its body is to be kept; says whether its client may go on sending."""
        if waiter not in self._waiting:
            return True
        self._waiting_bytes += more_bytes
        return self._waiting_bytes <= self._limits.held_bytes

    def leave(self, waiter: Waiter, body_bytes: int) -> None:
        """It waits no longer; `body_bytes` is all that was kept for it."""
        if self._waiting.pop(waiter, None) is not None:
            self._waiting_bytes -= body_bytes

    def sweep(self, now: float) -> None:
        """Gives up who has waited too long, and connections that were kept too long."""
        for waiter in [waiter for waiter, until in self._waiting.items() if until <= now]:
            waiter.waited_too_long()
        oldest = now - self._limits.kept_s
        for connections in self._kept.values():
            while connections and connections[0].kept_since <= oldest:
                connections.pop(0).close()

    def drain(self) -> None:
        """From now on no request waits: those that do are told."""
        self.is_draining = True
        for waiter in list(self._waiting):
            waiter.must_not_wait()

    def close(self) -> None:
        """Closes the kept connections."""
        if self._waker is not None:
            self._waker.cancel()
        for connections in self._kept.values():
            for connection in connections:
                connection.close()
        self._kept.clear()

    def _wake(self) -> None:
        """Has all who wait look again, in the order in which they came."""
        self._waker = None
        for waiter in list(self._waiting):
            waiter.look_again()

    def _wake_in_time(self) -> None:
        """Has them look again when a replica that refused may be tried again."""
        now = self._loop.time()
        at = self._balancer.next_return(now)
        if at is not None and self._waker is None:
            self._waker = self._loop.call_at(max(at, now), self._wake)
