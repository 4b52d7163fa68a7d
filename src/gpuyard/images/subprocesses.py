"""Programs that a build asks something, and that don't outlive the question."""

from __future__ import annotations

import asyncio


async def outputs(process: asyncio.subprocess.Process, sent: bytes | None = None) -> tuple[bytes, bytes]:
    """What it writes to standard output and error until it ends; killed when the caller is cancelled.

    Args:
        process: with pipes for what is wanted of it; of the others nothing comes.
        sent: to its standard input.
    """
    try:
        return await process.communicate(sent)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
