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
#: A busy server isn't left alone for longer: an API server asks for 32 s at most (maxRetryAfter in its
#: dropped_requests_tracker.go).
_LONGEST_PAUSE_S = 60.0
#: Of a page of a list 500 ConfigMaps as large as they may be (1 MiB each); other objects are much smaller.
MAX_ANSWER_BYTES = 512 << 20
#: Of an object in a watch: etcd takes 1.5 MiB of one by default.
MAX_EVENT_BYTES = 64 << 20
#: More of a refusal isn't read: a Status has less, and of a page the first words are shown.
MAX_REFUSAL_BYTES = 1 << 20


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

    @property
    def pause_s(self) -> float | None:
        """For how long a busy server asks to be left alone; None when it isn't busy or doesn't say.

        Source: client-go's rest.WithRetry, which repeats any request that was answered with 429 or 5xx and
        Retry-After.
        """
        after = self.headers.get("retry-after", "")
        if (self.status == 429 or self.status >= 500) and after.isdecimal():
            return float(after) if float(after) <= _LONGEST_PAUSE_S else None
        return None

    async def read(self, most_bytes: int) -> bytes:
        """The whole body.

        Raises:
            ConnectionFailed: also where it is longer than `most_bytes`.
        """
        content = await self.beginning(most_bytes + 1)
        if len(content) > most_bytes:
            raise self._too_long("", most_bytes)
        return content

    async def beginning(self, most_bytes: int) -> bytes:
        """What the body begins with. Raises ConnectionFailed."""
        content = bytearray()
        async for piece in self.pieces:
            content += piece
            if len(content) >= most_bytes:
                break
        return bytes(content[:most_bytes])

    async def lines(self, most_bytes: int) -> AsyncIterator[bytes]:
        """The lines of the body that aren't empty, as they come; the last also where no newline ends it.

        Raises:
            ConnectionFailed: also where one is longer than `most_bytes`.
        """
        begun = bytearray()
        async for piece in self.pieces:
            *whole, rest = piece.split(b"\n")
            for line in whole:
                if text := (bytes(begun) + line if begun else line).strip():
                    yield text
                begun.clear()
            begun += rest
            if len(begun) > most_bytes:
                raise self._too_long("a line of ", most_bytes)
        if text := bytes(begun).strip():
            yield text

    def _too_long(self, what: str, most_bytes: int) -> errors.ConnectionFailed:
        return errors.ConnectionFailed(
            f"the answer to {self.path} has {what}more than {most_bytes >> 20} MiB",
            remedy="see what answers there: it isn't what gpuyard expects",
        )


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
