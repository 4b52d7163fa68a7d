"""MPS control daemons: one for each GPU that containers share by MPS, kept running as long as it is shared.

A container finds the daemon of its GPU by the pipes in a folder, which is mounted into it. The limits of a
client are the daemon's defaults, which a client can lower for itself and not raise.
Source: NVIDIA's MPS documentation ("Starting and stopping MPS", "nvidia-cuda-mps-control").
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.options.sharing import SharingStrategy
from gpuyard.agent.served import Served, ServedDevice

PROGRAM = "nvidia-cuda-mps-control"
#: Users of containers come through to the pipes; what the daemon writes down is the agent's.
_PIPES_MODE, _LOGS_MODE = 0o755, 0o700
_RETRY_S = 0.5
_RETRY_MAX_S = 30.0
_ANSWER_S = 10.0
_END_S = 5.0
_LOG = logging.getLogger(__name__)


class MpsDaemons:
    """Those of one agent. It belongs to one event loop.

    Args:
        group: owns their tasks.
        folder: for their pipes and logs; None where the agent has none, and shares nothing by MPS.
        program: nvidia-cuda-mps-control; None where the driver has brought none.
    """

    def __init__(self, group: asyncio.TaskGroup, folder: Path | None, program: Path | None) -> None:
        self._group = group
        self._folder = folder
        self._program = program
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._limits: dict[str, str] = {}
        self._running: set[str] = set()
        self._is_simulated = False

    def update(self, served: Served) -> None:
        """Runs a daemon for each GPU that is shared by MPS, and ends those of others."""
        self._is_simulated = served.inventory.simulated
        limits = {} if self._is_simulated else _limits(served)
        for uuid in [uuid for uuid, said in self._limits.items() if limits.get(uuid) != said]:
            self._tasks.pop(uuid).cancel()
            del self._limits[uuid]
        if self._folder is None or self._program is None:
            return
        for uuid in limits.keys() - self._limits.keys():
            keeping = _keep(self._program, self._folder / uuid, uuid, limits[uuid], self._running)
            self._tasks[uuid] = self._group.create_task(keeping, name=f"MPS daemon of {uuid}")
            self._limits[uuid] = limits[uuid]

    def end(self) -> None:
        """Ends them all."""
        for task in self._tasks.values():
            task.cancel()

    def pipes(self, device: ServedDevice) -> Path | None:
        """The folder that a container needs to be a client; None for one that needs none.

        Raises:
            DeviceError: there is no daemon for it now.
        """
        by_mps = device.sharing is not None and device.sharing.strategy is SharingStrategy.MPS
        if not by_mps or self._is_simulated:
            return None
        if self._folder is None or self._program is None:
            missing = (
                f"{PROGRAM} isn't among the driver's programs" if self._folder else "it has no --mps-dir"
            )
            raise errors.DeviceError(
                f"GPU {device.gpu.index} is shared by MPS, and the agent runs none: {missing}"
            )
        if device.gpu.uuid not in self._running:
            raise errors.DeviceError(f"the MPS daemon of GPU {device.gpu.index} doesn't run now")
        return self._folder / device.gpu.uuid / "pipe"


def find_program(driver_root: Path) -> Path | None:
    """Where the driver has its control program."""
    found = shutil.which(PROGRAM, path=":".join(str(driver_root / at) for at in ("usr/bin", "bin")))
    return Path(found) if found else None


def _limits(served: Served) -> dict[str, str]:
    """What the daemon of each GPU is told, by UUID."""
    found = {}
    for device in served.devices:
        if device.sharing is not None and device.sharing.strategy is SharingStrategy.MPS:
            memory = device.sharing.client_memory_mib(device.gpu)
            # The daemon sees one GPU, which is its number 0.
            found[device.gpu.uuid] = (
                f"set_default_device_pinned_mem_limit 0 {memory}M\n"
                f"set_default_active_thread_percentage {device.sharing.client_thread_percent}\n"
            )
    return found


async def _keep(program: Path, folder: Path, uuid: str, limits: str, running: set[str]) -> None:
    """Keeps one daemon running until cancelled."""
    pipes, logs = folder / "pipe", folder / "log"
    env = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "CUDA_VISIBLE_DEVICES": uuid,
        "CUDA_MPS_PIPE_DIRECTORY": str(pipes),
        "CUDA_MPS_LOG_DIRECTORY": str(logs),
    }
    retry_s = _RETRY_S
    while True:
        process = None
        try:
            _make(folder, _PIPES_MODE)
            _make(pipes, _PIPES_MODE)
            _make(logs, _LOGS_MODE)
            process = await asyncio.create_subprocess_exec(
                program, "-f", env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
            )
            await _tell(program, limits, env)
            running.add(uuid)
            retry_s = _RETRY_S
            why = f"ended with code {await process.wait()}"
        except (OSError, errors.DeviceError) as error:
            why = f"can't be had: {error}"
        finally:
            running.discard(uuid)
            if process is not None and process.returncode is None:
                await _end(program, process, env)
        _LOG.warning("the MPS daemon of %s %s; starting it again in %.1f s", uuid, why, retry_s)
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, _RETRY_MAX_S)


def _make(folder: Path, mode: int) -> None:
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise errors.DeviceError(f"{folder} is a link, which the agent doesn't follow")
    # Not by mkdir, which takes the umask off.
    folder.chmod(mode)


async def _tell(program: Path, words: str, env: Mapping[str, str]) -> None:
    """Says something to the daemon, until it listens.

    Raises:
        DeviceError: it doesn't take it.
    """
    deadline = asyncio.get_running_loop().time() + _ANSWER_S
    while True:
        asking = await asyncio.create_subprocess_exec(
            program,
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_ANSWER_S):
                _, said = await asking.communicate(words.encode())
        except TimeoutError:
            said = b"no answer"
        finally:
            if asking.returncode is None:
                asking.kill()
                await asking.wait()
        if asking.returncode == 0:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise errors.DeviceError(f"it doesn't take its limits: {said.decode(errors='replace').strip()}")
        await asyncio.sleep(_RETRY_S)


async def _end(program: Path, process: asyncio.subprocess.Process, env: Mapping[str, str]) -> None:
    with suppress(OSError, errors.DeviceError):
        await _tell(program, "quit\n", env)
    try:
        await asyncio.wait_for(process.wait(), _END_S)
    except TimeoutError:
        process.kill()
        await process.wait()
