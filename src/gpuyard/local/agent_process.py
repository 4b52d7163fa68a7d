"""The yard's node agent: a child process that the daemon starts, and starts again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable

from gpuyard.local.paths import YardPaths

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_RETRY_MAX_S = 30.0
#: One that lived this long was healthy: its end is not a reason to wait longer before the next start.
_HEALTHY_S = 60.0
_STOP_S = 5.0


class AgentProcess:
    """Owns the agent. It holds the read end of a pipe from here and exits when the daemon is gone,
    however that happened, so that there is never a second agent for the next daemon's plugin folder."""

    def __init__(
        self, paths: YardPaths, node: str, simulate: str, *, on_pid: Callable[[int], None] = lambda pid: None
    ) -> None:
        self._arguments = [
            *("--plugins-dir", str(paths.device_plugins_dir)),
            *("--cdi-dir", str(paths.cdi_dir)),
            *("--api-socket", str(paths.api_socket)),
            *("--node", node),
            "--exit-with-stdin",
            *(("--simulate", simulate) if simulate else ()),
        ]
        self._on_pid = on_pid

    async def run(self) -> None:
        """Keeps one agent running until cancelled, then ends it."""
        loop = asyncio.get_running_loop()
        retry_s = _RETRY_S
        while True:
            began = loop.time()
            code = await self._run_once()
            if loop.time() - began > _HEALTHY_S:
                retry_s = _RETRY_S
            log.warning("the agent ended with code %s; starting it again in %.1f s", code, retry_s)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gpuyard.agent",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )
        self._on_pid(process.pid)
        try:
            return await process.wait()
        finally:
            self._on_pid(0)
            if process.returncode is None:
                await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
