"""MPS control daemons: one for each GPU that containers share by MPS, kept running as long as it is shared.

A container finds the daemon of its GPU by the pipes in a folder, which is mounted into it. The limits of a
client are the daemon's defaults, which a client can lower for itself and not raise. The GPU's compute mode
keeps whoever is no client off it (docs/adr/0046).
Source: NVIDIA's MPS documentation ("Starting and stopping MPS", "nvidia-cuda-mps-control").
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.options.sharing import SharingStrategy
from gpuyard.agent.plugin.mps_programs import CONTROL, MpsPrograms
from gpuyard.agent.served import Served, ServedDevice

SHARED_MEMORY = Path("/dev/shm")
#: Users of containers come through to the pipes; what the daemon writes down is the agent's.
_PIPES_MODE, _LOGS_MODE = 0o755, 0o700
_RETRY_S = 0.5
_RETRY_MAX_S = 30.0
_ANSWER_S = 10.0
_END_S = 5.0
_SHARED_MEMORY_MODE = 0o1777
_EXCLUSIVE, _DEFAULT = "EXCLUSIVE_PROCESS", "DEFAULT"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MpsFolders:
    """Where a client meets its daemon.

    Attributes:
        pipes: the same path on the node and in containers.
        shared_memory: the node's, which both have as /dev/shm.
    """

    pipes: Path
    shared_memory: Path


class MpsDaemons:
    """Those of one agent. It belongs to one event loop.

    Args:
        group: owns their tasks.
        folder: for their pipes and logs; None where the agent has none, and shares nothing by MPS.
        find_programs: finds what runs them, of this version of the driver; None where it has brought none.
        shared_memory: the node's folder that is /dev/shm here.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        folder: Path | None = None,
        find_programs: Callable[[str], MpsPrograms | None] = lambda version: None,
        shared_memory: Path = SHARED_MEMORY,
    ) -> None:
        self._group = group
        self._folder = folder
        self._find_programs = find_programs
        self._shared_memory = shared_memory
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted: dict[str, _Daemon] = {}
        #: Why a daemon doesn't run, by its GPU; empty while it does.
        self._faults: dict[str, str] = {}
        self._is_simulated = False

    def update(self, served: Served) -> None:
        """Runs a daemon for each GPU that is shared by MPS, and ends those of others."""
        self._is_simulated = served.inventory.simulated
        if self._folder is None:
            return
        wanted = {} if self._is_simulated else _daemons(served, self._folder, self._shared_memory)
        ending = {}
        for uuid in [uuid for uuid, daemon in self._wanted.items() if wanted.get(uuid) != daemon]:
            ending[uuid] = self._tasks.pop(uuid)
            ending[uuid].cancel()
            del self._wanted[uuid]
            self._faults.pop(uuid, None)
        for uuid in wanted.keys() - self._wanted.keys():
            keeping = _keep(wanted[uuid], self._find_programs, self._faults, ending.get(uuid))
            self._tasks[uuid] = self._group.create_task(keeping, name=f"MPS daemon of {uuid}")
            self._wanted[uuid] = wanted[uuid]

    def end(self) -> None:
        """Ends them all."""
        for task in self._tasks.values():
            task.cancel()

    def folders(self, device: ServedDevice) -> MpsFolders | None:
        """What a container needs to be a client; None for one that needs none.

        Raises:
            DeviceError: there is no daemon for it now.
        """
        by_mps = device.sharing is not None and device.sharing.strategy is SharingStrategy.MPS
        if not by_mps or self._is_simulated:
            return None
        if self._folder is None:
            raise errors.DeviceError(
                f"GPU {device.gpu.index} is shared by MPS, and the agent runs none: it has no --mps-dir"
            )
        if fault := self._faults.get(device.gpu.uuid, "it has yet to start"):
            raise errors.DeviceError(f"the MPS daemon of GPU {device.gpu.index} doesn't run now: {fault}")
        return MpsFolders(self._folder / device.gpu.uuid / "pipe", self._shared_memory)


@dataclass(frozen=True)
class _Daemon:
    """One that is wanted.

    Attributes:
        uuid: of its GPU.
        limits: what it is told.
        driver_version: whose programs it is of.
        folder: for its pipes and logs.
        shared_memory: the node's folder that is /dev/shm here.
    """

    uuid: str
    limits: str
    driver_version: str
    folder: Path
    shared_memory: Path

    @property
    def environ(self) -> Mapping[str, str]:
        """What makes it and its clients meet."""
        return {
            "CUDA_VISIBLE_DEVICES": self.uuid,
            "CUDA_MPS_PIPE_DIRECTORY": str(self.folder / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(self.folder / "log"),
        }

    def make_folders(self) -> None:
        """Makes them.

        Raises:
            OSError: they can't be made.
            DeviceError: one is a link.
        """
        for folder, mode in ((".", _PIPES_MODE), ("pipe", _PIPES_MODE), ("log", _LOGS_MODE)):
            _make(self.folder / folder, mode)
        if self.shared_memory != SHARED_MEMORY:
            # It was made for this, and clients are of any user.
            SHARED_MEMORY.chmod(_SHARED_MEMORY_MODE)


def _daemons(served: Served, folder: Path, shared_memory: Path) -> dict[str, _Daemon]:
    """Those that are wanted, by UUID."""
    found = {}
    for device in served.devices:
        if device.sharing is not None and device.sharing.strategy is SharingStrategy.MPS:
            uuid, memory = device.gpu.uuid, device.sharing.client_memory_mib(device.gpu)
            # The daemon sees one GPU, which is its number 0.
            limits = (
                f"set_default_device_pinned_mem_limit 0 {memory}M\n"
                f"set_default_active_thread_percentage {device.sharing.client_thread_percent}\n"
            )
            version = served.inventory.driver_version
            found[uuid] = _Daemon(uuid, limits, version, folder / uuid, shared_memory)
    return found


async def _keep(
    daemon: _Daemon,
    find_programs: Callable[[str], MpsPrograms | None],
    faults: dict[str, str],
    after: asyncio.Task[None] | None,
) -> None:
    """Keeps one daemon running until cancelled, once the one before it, of the same GPU, has ended."""
    if after is not None:
        await asyncio.wait([after])
    retry_s = _RETRY_S
    while True:
        try:
            programs = await asyncio.to_thread(find_programs, daemon.driver_version)
            if programs is None:
                raise errors.DeviceError(f"{CONTROL} isn't among the driver's programs")
            daemon.make_folders()
            async with _running(daemon, programs) as process:
                faults[daemon.uuid] = ""
                retry_s = _RETRY_S
                why = f"it ended with code {await process.wait()}"
        except (OSError, errors.DeviceError) as error:
            why = str(error)
        faults[daemon.uuid] = why
        _LOG.warning("no MPS daemon of %s: %s; starting one in %.1f s", daemon.uuid, why, retry_s)
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, _RETRY_MAX_S)


@asynccontextmanager
async def _running(daemon: _Daemon, programs: MpsPrograms) -> AsyncIterator[asyncio.subprocess.Process]:
    """A daemon that has its limits, and its GPU for itself; ended with the block if it hasn't before."""
    env = {**programs.environ, **daemon.environ}
    process = await asyncio.create_subprocess_exec(
        programs.control, "-f", env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await _tell(programs.control, daemon.limits, env)
        # Only now: the agent before this one leaves the mode as it was before it ends its daemon.
        await _set_compute_mode(programs, daemon.uuid, _EXCLUSIVE)
        yield process
    finally:
        if process.returncode is None:
            await _set_compute_mode(programs, daemon.uuid, _DEFAULT)
            await _end(programs.control, process, env)


async def _set_compute_mode(programs: MpsPrograms, uuid: str, mode: str) -> None:
    """Whether processes that are no clients may use the GPU; only root may set it."""
    why = "there is no nvidia-smi"
    if programs.smi:
        setting = await asyncio.create_subprocess_exec(
            *(programs.smi, f"--id={uuid}", f"--compute-mode={mode}"),
            env=programs.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_ANSWER_S):
                said, _ = await setting.communicate()
            why = said.decode(errors="replace").strip() if setting.returncode else ""
        except TimeoutError:
            why = "nvidia-smi doesn't answer"
        finally:
            if setting.returncode is None:
                setting.kill()
                await setting.wait()
    if why:
        _LOG.warning("the compute mode of %s can't be %s: %s", uuid, mode, why)


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
