"""One request to an API and its answer, whoever carries them.

Two carriers: `direct_http`, on every command's way and so without a library; `proxied_http` over httpx,
for a proxy on the way to a cluster.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, urlencode

from gpuyard import errors

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
#: After so long without an answer a command says what it waits for.
PATIENCE_S = 1.5


@dataclass(frozen=True)
class ClientRequest:
    """What is asked.

    Attributes:
        method, path: path without a query, not escaped.
        params: the query; a value that is a list stands there once for each of its items.
        content, content_type: the body, if there is one.
        accept: the media types that the answer may have.
        upgrade: headers that ask for another protocol on the connection; empty to stay with HTTP.
        silence_timeout_s: the answer is given up after so long without a byte; None: never.
    """

    method: str
    path: str
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = "application/json"
    accept: str = "*/*"
    upgrade: Mapping[str, str] = field(default_factory=dict)
    silence_timeout_s: float | None = ANSWER_TIMEOUT_S

    def __post_init__(self) -> None:
        """Raises UsageError for a path that can't be asked for."""
        if not self.path.isprintable():
            raise errors.UsageError(
                f"{self.path!r} can't be asked for: it has characters that no name has",
                remedy="mend the name in it",
            )

    @property
    def target(self) -> str:
        """Path and query as they stand in a request line."""
        return quote(self.path, safe="/:~@!$&'()*+,;=") + (
            f"?{urlencode(self.params, doseq=True)}" if self.params else ""
        )


class Wire(Protocol):
    """A connection that speaks another protocol by now: bytes both ways."""

    async def read(self, most_bytes: int) -> bytes:
        """What came next; empty at the end. Raises ConnectionFailed when it breaks."""
        ...

    async def write(self, data: bytes) -> None:
        """Sends, and waits while the connection is full. Raises ConnectionFailed when it breaks."""
        ...


@dataclass(frozen=True)
class ClientResponse:
    """An answer whose body is still to be read, once: by `read`, or piece by piece.

    Attributes:
        path: what was asked for.
        status: such as 200.
        headers: by lower-case name.
        pieces: the body. Raises ConnectionFailed when it is cut short, and Stalled when it stays silent.
        wire: the connection itself, where the server agreed to another protocol.
    """

    path: str
    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]
    wire: Wire | None = None

    async def read(self, most_bytes: int | None = None) -> bytes:
        """The whole body.

        Raises:
            ConnectionFailed: also where it is longer than `most_bytes`.
        """
        content = bytearray()
        async for piece in self.pieces:
            content += piece
            if most_bytes is not None and len(content) > most_bytes:
                raise errors.ConnectionFailed(
                    f"the answer to {self.path} has more than {most_bytes >> 20} MiB",
                    remedy="see what answers there: it isn't what gpuyard expects",
                )
        return bytes(content)

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines of the body that aren't empty, as they come; the last also where no newline ends it."""
        begun: list[bytes] = []
        async for piece in self.pieces:
            *whole, rest = piece.split(b"\n")
            for line in whole:
                if text := b"".join((*begun, line)).strip():
                    yield text
                begun.clear()
            begun.append(rest)
        if text := b"".join(begun).strip():
            yield text


class Http(Protocol):
    """Carries requests to one API, over as many connections as are needed at once."""

    def send(self, request: ClientRequest) -> AbstractAsyncContextManager[ClientResponse]:
        """The answer, as long as the context is open.

        Raises:
            UsageError: the path can't be asked for.
            ConnectionFailed: nobody answers, or what answers doesn't speak HTTP.
            Stalled: the answer stays silent for longer than the request allows.
        """
        ...

    async def aclose(self) -> None:
        """Closes every connection."""
        ...
