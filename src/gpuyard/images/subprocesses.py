"""Programs that a build asks something, and that don't outlive the question."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

_MOST_BYTES = 64 << 20
_PIECE_BYTES = 1 << 16


async def outputs(process: asyncio.subprocess.Process, sent: bytes | None = None) -> tuple[bytes, bytes]:
    """What it writes to standard output and error until it ends; killed when the caller is cancelled.

    A program that leads its own group (`start_new_session`) is killed with all that it started; one that
    doesn't stop writing is killed, too.

    Args:
        process: with pipes for what is wanted of it; of the others nothing comes.
        sent: to its standard input.
    """
    try:
        _, out, err = await asyncio.gather(
            _send(process.stdin, sent), _read(process, process.stdout), _read(process, process.stderr)
        )
        await process.wait()
    finally:
        if process.returncode is None:
            _kill(process)
            await asyncio.gather(_drain(process.stdout), _drain(process.stderr))
            await process.wait()
    return out, err


async def _send(pipe: asyncio.StreamWriter | None, sent: bytes | None) -> None:
    if pipe is not None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it needn't read
            pipe.write(sent or b"")
            await pipe.drain()
        pipe.close()


async def _read(process: asyncio.subprocess.Process, pipe: asyncio.StreamReader | None) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while pipe is not None and (piece := await pipe.read(_PIECE_BYTES)):
        size += len(piece)
        if size > _MOST_BYTES:
            _kill(process)
            await _drain(pipe)
            break
        pieces.append(piece)
    return b"".join(pieces)


async def _drain(pipe: asyncio.StreamReader | None) -> None:
    # asyncio pauses a pipe that isn't read, never sees its end, and `wait` waits for that.
    while pipe is not None and await pipe.read(_PIECE_BYTES):
        pass


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid:
            # What it started may hold the pipes, whose end `wait` waits for.
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
