"""A command in a running container, its exit code and what it says.

Source: kubernetes `pkg/probe/exec`.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import partial

from gpuyard import errors
from gpuyard.local.kubelet.probing.answer import MAX_ANSWER_BYTES, ProbeAnswer, ProbeResult, failure
from gpuyard.local.kubelet.streams import KubeletStreams
from gpuyard.local.objects.pod_streams import StreamOptions
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.exec_process import ExecProcess

_PIECE_BYTES = 1 << 16
_OUTPUTS = StreamOptions(stdin=False, stdout=True, stderr=True, tty=False)


async def run_command(
    streams: KubeletStreams, container: Container, command: list[str], timeout_s: float | None
) -> ProbeAnswer:
    """Runs it to its end, or to the end of its time."""
    try:
        process = await streams.exec_in(container.folder, container.name, command, _OUTPUTS)
    except errors.GpuyardError as error:
        return ProbeAnswer(ProbeResult.UNKNOWN, error.message)
    said = bytearray()
    loop = asyncio.get_running_loop()
    read = list(process.outputs.values())
    for descriptor in read:
        loop.add_reader(descriptor, partial(_read, loop, descriptor, said))
    try:
        async with asyncio.timeout(timeout_s):
            code = await process.wait()
    except TimeoutError:
        line = " ".join(command)
        return failure(f'command timed out: "{line}" timed out after {timeout_s:g}s')
    finally:
        await _close(process, read, said)
    text = said.decode(errors="replace")
    return ProbeAnswer(ProbeResult.SUCCESS, text) if code == 0 else failure(text)


async def _close(process: ExecProcess, read: list[int], said: bytearray) -> None:
    """Takes what is left in its pipes, and ends it where it goes on."""
    loop = asyncio.get_running_loop()
    for descriptor in read:
        _read(loop, descriptor, said)
        loop.remove_reader(descriptor)
    await process.close()


def _read(loop: asyncio.AbstractEventLoop, descriptor: int, said: bytearray) -> None:
    with suppress(BlockingIOError):
        piece = os.read(descriptor, _PIECE_BYTES)
        if not piece:
            loop.remove_reader(descriptor)
        said += piece[: max(0, MAX_ANSWER_BYTES - len(said))]
