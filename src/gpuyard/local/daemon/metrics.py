"""Fetches what exporters say of the yard's GPUs, and proxies of its Services, for whoever may use the API:
see docs/adr/0042."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gpuyard import errors

#: Less than clients wait, who would else take the yard for what hangs.
_LIMIT_S = 3.0
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def read_metrics(sockets: Sequence[Path]) -> bytes:
    """What the exporters of a yard's nodes and the proxies of its Services answer now, as one text.

    Raises:
        ServiceUnavailable: none of them answers.
    """
    texts = await asyncio.gather(*map(_read, sockets), return_exceptions=True)
    answered = [text for text in texts if isinstance(text, bytes)]
    if not answered:
        for problem in texts:
            if isinstance(problem, BaseException):
                raise problem
    return answered[0] if len(answered) == 1 else joined(answered)


def joined(texts: Sequence[bytes]) -> bytes:
    """Texts of several exporters as one: the samples of a family have to follow one another, and its HELP
    and TYPE may be there once."""
    families: dict[bytes, dict[bytes, None]] = {}
    for text in texts:
        lines: dict[bytes, None] = {}
        for line in text.splitlines():
            if line.startswith((b"# HELP ", b"# TYPE ")):
                lines = families.setdefault(line.split(maxsplit=3)[2], {})
            lines[line] = None
    return b"".join(line + b"\n" for lines in families.values() for line in lines)


async def _read(socket: Path) -> bytes:
    try:
        async with asyncio.timeout(_LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(_REQUEST)
                answer = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise _silent(str(error) or f"no answer in {_LIMIT_S:.0f} s") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise _silent("it gives no metrics")
    return body


def _silent(why: str) -> errors.ServiceUnavailable:
    return errors.ServiceUnavailable(
        f"the yard's exporter doesn't answer: {why}",
        remedy="it starts within seconds after the yard; if it doesn't, see daemon.log in the data folder",
    )
