"""One request of a client: it finds a replica, its body goes there, and the answer comes back."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from gpuyard.local.service_proxy.endpoints import ServiceReplica
from gpuyard.local.service_proxy.figures import Figures
from gpuyard.local.service_proxy.heads import (
    LAST_CHUNK,
    Framing,
    ProxiedRequest,
    ProxyRefusal,
    ReplicaAnswer,
    answer_head,
    chunk,
    refusal_bytes,
    upgraded_head,
)
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.replica_connection import ReplicaConnection, TunnelEnd
from gpuyard.local.service_proxy.replicas import Replicas

#: As nginx counts a client that left before its answer was whole.
_CLIENT_LEFT = 499
_RETRY_AFTER_S = 5
_FULL = "no replica is ready, and too many requests wait for one already: try again later"
_WAITED = (
    "no replica has become ready in {:.0f} s: see `gpuyard ps` and `gpuyard explain`, and try again later"
)
_ENDS = (
    "this address of the service ends, and no replica is ready to answer before: "
    "see `gpuyard ps`, and try again later"
)


class Client(Protocol):
    """The connection on which a request came."""

    @property
    def is_full(self) -> bool:
        """Whether it takes no more for now; `Exchange.hold_answer` tells of changes."""

    def write(self, data: bytes) -> None:
        """Sends a part of the answer."""

    def hold_request(self, hold: bool) -> None:
        """Whether no more of the request shall be read for now."""

    def exchange_over(self) -> None:
        """The answer is whole."""

    def cut(self) -> None:
        """The answer can't be whole: the connection ends without saying that it is."""

    def start_tunnel(self, other: ReplicaConnection) -> TunnelEnd:
        """Another protocol is spoken from now on; what the client has sent of it goes to the other end."""


class Exchange:
    """Carries one request and its answer.

    What was sent of a request is kept while it is short and may be repeated: until an answer begins.
    Nothing is sent twice that isn't idempotent (RFC 9110 9.2.2).

    Args:
        client: whose request it is.
        request: as it goes on.
        replicas: one of which answers.
        figures: count it.
        limits: what it may cost.
        is_last: the client's connection ends with its answer.
        refusal: the answer, where none is asked of a replica.
    """

    __slots__ = (
        "_attempts",
        "_began",
        "_client",
        "_connecting",
        "_connection",
        "_figures",
        "_framing",
        "_is_complete",
        "_is_over",
        "_is_repeatable",
        "_kept_bytes",
        "_limits",
        "_loop",
        "_out",
        "_pieces",
        "_replica",
        "_replicas",
        "_status",
        "_until",
        "_written",
        "is_last",
        "refusal",
        "request",
    )

    def __init__(
        self,
        client: Client,
        request: ProxiedRequest,
        replicas: Replicas,
        figures: Figures,
        limits: ProxyLimits,
        *,
        is_last: bool,
        refusal: ProxyRefusal | None = None,
    ) -> None:
        self.request = request
        self.is_last = is_last
        self._client = client
        self._replicas = replicas
        self._figures = figures
        self._limits = limits
        self.refusal = refusal
        self._loop = asyncio.get_running_loop()
        #: The request as it goes on, as far as it is here, and how many of its pieces were sent.
        self._pieces: list[bytes] = [request.head]
        self._written = 0
        self._kept_bytes = len(request.head)
        self._is_complete = False
        self._is_repeatable = True
        self._attempts = 0
        self._until = 0.0
        self._replica: ServiceReplica | None = None
        self._connection: ReplicaConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        #: What is to be sent of the answer.
        self._out: list[bytes] = []
        self._status = 0
        self._framing = Framing.NO_BODY
        self._is_over = False
        self._began = self._loop.time()
        figures.begin(self._began)

    # What the client's connection tells.

    @property
    def is_over(self) -> bool:
        """Whether it was answered, or given up; what is still to come of the request goes nowhere."""
        return self._is_over

    def start(self) -> None:
        """Has it answered: those before it on the same connection were."""
        if self.refusal is not None:
            self.refuse(self.refusal)
        else:
            self._seek()

    def body(self, data: bytes) -> None:
        """A piece of the request's body."""
        if not self._is_over:
            self._add(chunk(data) if self.request.is_chunked else data)

    def body_ended(self) -> None:
        """The request is whole."""
        self._is_complete = True
        if self.request.is_chunked and not self._is_over:
            self._add(LAST_CHUNK)

    def flush(self) -> None:
        """All that came by now was told: it goes on, where there is a connection."""
        if self._connection is not None:
            self._send()
        elif self._kept_bytes > self._limits.kept_body_bytes and not self._is_over:
            self._client.hold_request(True)

    def hold_answer(self, hold: bool) -> None:
        """The client takes no more for now, or does again."""
        if self._connection is not None:
            self._connection.hold_answer(hold)

    def abandon(self) -> None:
        """The client has left."""
        self._finish(self._status or _CLIENT_LEFT, None)

    def refuse(self, refusal: ProxyRefusal) -> None:
        """Answers in a replica's place; cuts an answer that has begun."""
        if self._is_over:
            return
        if self._status:
            self._cut()
            return
        self.is_last = self.is_last or not self._is_complete
        with_body = self.request.method != b"HEAD"
        self._client.write(refusal_bytes(refusal, with_body=with_body, is_last=self.is_last))
        self._finish(refusal.status, self._loop.time() - self._began)
        self._client.exchange_over()

    # Finding a replica.

    def _seek(self) -> None:
        self._until = self._loop.time() + self._limits.hold_s
        self._look()

    def _look(self) -> None:
        replica = self._replicas.begin()
        if replica is None:
            if self._replicas.is_draining:
                self.must_not_wait()
            elif not self._replicas.wait(self, self._kept_bytes, self._until):
                self.refuse(ProxyRefusal(HTTPStatus.SERVICE_UNAVAILABLE, _FULL, _RETRY_AFTER_S))
            return
        self._replica = replica
        connection = self._replicas.kept_connection(replica)
        if connection is not None:
            self._use(connection)
        else:
            self._connecting = self._loop.create_task(self._connect(replica), name="connect-to-replica")

    def look_again(self) -> None:
        """A replica may be ready now."""
        self._replicas.leave(self, self._kept_bytes)
        self._look()

    def waited_too_long(self) -> None:
        """No replica was ready for as long as may be waited."""
        sentence = _WAITED.format(self._limits.hold_s)
        self.refuse(ProxyRefusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, _RETRY_AFTER_S))

    def must_not_wait(self) -> None:
        """The proxy ends: it finishes what a replica has, and no more."""
        self.refuse(ProxyRefusal(HTTPStatus.SERVICE_UNAVAILABLE, _ENDS, _RETRY_AFTER_S))

    async def _connect(self, replica: ServiceReplica) -> None:
        connection = await self._replicas.connect(replica)
        self._connecting = None
        if connection is not None:
            self._use(connection)
        else:
            self._leave_replica()
            self._look()

    def _leave_replica(self) -> None:
        if self._replica is not None:
            self._replicas.end(self._replica)
            self._replica = None

    # Sending the request.

    def _use(self, connection: ReplicaConnection) -> None:
        self._connection = connection
        self._attempts += 1
        self._written = 0
        connection.ask(self, self.request.method)
        if self._client.is_full:
            connection.hold_answer(True)
        self._client.hold_request(False)
        self._send()

    def _add(self, data: bytes) -> None:
        self._pieces.append(data)
        if self._is_repeatable:
            self._kept_bytes += len(data)
            if not self._replicas.grow(self, len(data)):
                self._client.hold_request(True)

    def _send(self) -> None:
        pieces = self._pieces[self._written :]
        if not pieces or self._connection is None:
            return
        if not self._may_be_repeated():
            self._forget_request()
        self._written = len(self._pieces)
        self._connection.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _may_be_repeated(self) -> bool:
        return (
            self._is_repeatable
            and self.request.is_idempotent
            and self._kept_bytes <= self._limits.kept_body_bytes
        )

    def _forget_request(self) -> None:
        self._is_repeatable = False
        self._pieces.clear()
        self._written = 0

    # What the connection to the replica tells.

    def hold_request(self, hold: bool) -> None:
        """See `AnswerReader`."""
        self._client.hold_request(hold)

    def interim(self, answer: ReplicaAnswer) -> None:
        """See `AnswerReader`."""
        if not self.request.is_http_1_0:
            self._client.write(answer_head(answer, Framing.NO_BODY))

    def answer_began(self, answer: ReplicaAnswer) -> None:
        """See `AnswerReader`."""
        self._forget_request()
        self._status, framing = answer.status, answer.framing
        if framing is Framing.CHUNKED or framing is Framing.UNTIL_CLOSE:
            framing = Framing.UNTIL_CLOSE if self.request.is_http_1_0 else Framing.CHUNKED
        self._framing = framing
        self._out.append(answer_head(answer, framing, is_last=self.is_last))

    def answer_body(self, data: bytes) -> None:
        """See `AnswerReader`."""
        self._out.append(chunk(data) if self._framing is Framing.CHUNKED else data)

    def flush_answer(self) -> None:
        """See `AnswerReader`."""
        if self._out:
            self._client.write(b"".join(self._out))
            self._out.clear()

    def answer_ended(self, *, reusable: bool) -> None:
        """See `AnswerReader`."""
        if self._framing is Framing.CHUNKED:
            self._out.append(LAST_CHUNK)
        self.flush_answer()
        connection, self._connection = self._connection, None
        assert connection is not None
        if reusable and self._is_complete:
            connection.hold_answer(False)
            self._replicas.keep(connection)
        else:
            connection.close()
        self._finish(self._status, self._loop.time() - self._began)
        self._client.exchange_over()

    def broke(self, why: str) -> None:
        """See `AnswerReader`."""
        self._connection = None
        if not self._status and self._is_repeatable and self._attempts < self._limits.attempts:
            self._leave_replica()
            self._seek()
            return
        name = self._replica.name if self._replica else ""
        self.refuse(ProxyRefusal(HTTPStatus.BAD_GATEWAY, f"replica {name} gave no answer: {why}"))

    def upgraded(self, answer: ReplicaAnswer, rest: bytes) -> None:
        """See `AnswerReader`."""
        connection = self._connection
        assert connection is not None
        if not self.request.upgrade:
            connection.close()
            self.broke("it agreed to another protocol, for which nobody asked")
            return
        self._forget_request()
        self._status = answer.status
        self._client.write(upgraded_head(answer) + rest)
        connection.start_tunnel(self._client.start_tunnel(connection))

    # The end.

    def _cut(self) -> None:
        self.flush_answer()
        self._finish(self._status, None)
        self._client.cut()

    def _finish(self, status: int, took_s: float | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._replicas.leave(self, self._kept_bytes)
        self._pieces.clear()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        name = self._replica.name if self._replica else ""
        self._figures.end(self._loop.time(), name, status, took_s)
        self._leave_replica()
