"""The processes of the yard's agent: the daemon starts each, and again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gpuyard.local.paths import NodePaths
from gpuyard.local.settings import Settings

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_RETRY_MAX_S = 30.0
#: One that lived this long was healthy: its end is not a reason to wait longer before the next start.
_HEALTHY_S = 60.0
_STOP_S = 5.0


class AgentProcess:
    """Owns one process of the agent. It holds the read end of a pipe from here and exits when the daemon is
    gone, however that happened, so that there is never a second one for the next daemon's folders.

    Args:
        module: of the command.
        arguments: of the command.
        on_pid: told the pid of each start, and 0 at each end.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], *, on_pid: Callable[[int], None] = lambda pid: None
    ) -> None:
        self._module = module
        self._arguments = (*arguments, "--exit-with-stdin")
        self._on_pid = on_pid
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def plugin(
        cls,
        paths: NodePaths,
        node: str,
        settings: Settings,
        *,
        yard: str,
        locks: Path | None,
        on_pid: Callable[[int], None] = lambda pid: None,
    ) -> AgentProcess:
        """What finds the GPUs and serves them to the kubelet.

        Args:
            paths: of the node.
            node: its name.
            settings: `simulate` is this node's alone.
            yard: whose locks of GPUs are this node's too, see `yard_id`.
            locks: where the yard locks GPUs.
            on_pid: told the pid of each start, and 0 at each end.
        """
        arguments = [
            *("--plugins-dir", str(paths.device_plugins_dir)),
            *("--cdi-dir", str(paths.cdi_dir), "--cdi-driver"),
            *("--marks-file", str(paths.marks_file)),
            *("--node", node),
            # The locks of a GPU and of its parts don't know each other (docs/adr/0038).
            *("--mig-strategy", settings.mig_strategy, "--no-split-gpus"),
            *("--yard", yard),
        ]
        if locks is not None:
            arguments += ["--locks", str(locks)]
        if settings.share_with_others:
            arguments.append("--share-with-others")
        if settings.gpu_config:
            arguments += ["--config", settings.gpu_config, "--mps-dir", str(paths.runtime_dir)]
        return cls("gpuyard.agent", [*arguments, *_backends(paths, settings)], on_pid=on_pid)

    @classmethod
    def labeller(cls, paths: NodePaths, node: str, *, api_socket: Path) -> AgentProcess:
        """What writes on the node what the plugin found."""
        arguments = (
            *("--follow", str(paths.marks_file), "--use-file", str(paths.use_file)),
            *("--api-socket", str(api_socket), "--node", node),
        )
        return cls("gpuyard.agent.labelling", arguments)

    @classmethod
    def exporter(cls, paths: NodePaths, node: str, settings: Settings) -> AgentProcess:
        """What says what the GPUs do."""
        arguments = [
            *("--pod-resources", str(paths.pod_resources_socket)),
            *("--socket", str(paths.metrics_socket)),
            *("--marks-file", str(paths.marks_file), "--use-file", str(paths.use_file)),
            *("--node", node),
        ]
        return cls("gpuyard.agent.exporter", [*arguments, *_backends(paths, settings)])

    async def run(self) -> None:
        """Keeps one process running until cancelled, then ends it."""
        loop = asyncio.get_running_loop()
        retry_s = _RETRY_S
        while True:
            began = loop.time()
            try:
                ended = f"ended with code {await self._run_once()}"
            except OSError as error:
                ended = f"can't be started: {error}"
            if loop.time() - began > _HEALTHY_S:
                retry_s = _RETRY_S
            log.warning("%s %s; starting it again in %.1f s", self._module, ended, retry_s)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _RETRY_MAX_S)

    async def restart(self) -> None:
        """Ends the process; `run` starts the next one."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )
        self._process = process
        try:
            self._on_pid(process.pid)
            return await process.wait()
        finally:
            self._process = None
            if process.returncode is None:
                await _end(process)
            self._on_pid(0)


def _backends(paths: NodePaths, settings: Settings) -> list[str]:
    """Where the GPUs come from."""
    found = ["--gpu-backend", settings.gpu_backend] if settings.gpu_backend else []
    if settings.simulate:
        found += ["--simulate", settings.simulate, "--simulated-health", str(paths.simulated_health)]
    return found


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
