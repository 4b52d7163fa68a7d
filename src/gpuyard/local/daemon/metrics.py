"""Fetches what the exporter says of the yard's GPUs, for whoever may use the API: see docs/adr/0042."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gpuyard import errors

#: Less than clients wait, who would else take the yard for what hangs.
_LIMIT_S = 3.0
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def read_metrics(socket: Path) -> bytes:
    """The text that the exporter answers now.

    Raises:
        ServiceUnavailable: it doesn't.
    """
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
