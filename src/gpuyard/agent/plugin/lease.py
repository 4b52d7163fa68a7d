"""Which agent serves a node's kubelet: those of one install, and nobody else's beside them.

They hold a lock on a file in a folder of their own beside the kubelet's sockets; a kubelet that starts leaves
folders alone. The file says whose the lock is. The kernel drops a lock with its last holder, so the file that
an agent left behind says nothing.

- Who serves holds the lock for reading. Agents of one owner do so together: in a rollout the next one starts
  beside the one that serves (see ADR 25), and which of them serves is told by their sockets.
- What the file says is written by who holds the lock for writing, and so alone; a reader has it of a holder.
- An agent of another owner waits until the lock is free.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from gpuyard import errors
from gpuyard.devices.gpu_locks import whole_file_lock
from gpuyard.kube.timestamps import format_time
from gpuyard.private_folders import make_private_folder
from gpuyard.regular_files import open_regular

_FOLDER, _FILE = "gpuyard", "agent.lock"
#: Between two tries, and between two looks at whether the file is there still.
_LOOK_S = 0.5
_MAX_BYTES = 4096
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseHolder:
    """Who has a lease, as it says itself.

    Attributes:
        owner: of which all agents may serve beside each other; empty for one that is alone.
        host: its machine's name, which in a pod is the pod's.
        pid: its process there.
        since: RFC 3339.
    """

    owner: str
    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        whose = f" of {self.owner}" if self.owner else ""
        return f"the agent{whose} on {self.host} (pid {self.pid}), since {self.since}"


class Lease:
    """That of one process. It belongs to one event loop.

    Args:
        plugins_dir: the kubelet's folder of device plugin sockets.
        owner: see `LeaseHolder`.
        clock: aware UTC now.
    """

    def __init__(self, plugins_dir: Path, owner: str, clock: Callable[[], datetime]) -> None:
        self.path = plugins_dir / _FOLDER / _FILE
        self._holder = LeaseHolder(owner, os.uname().nodename, os.getpid(), format_time(clock()))
        self._descriptor: int | None = None

    @asynccontextmanager
    async def held(self, on_wait: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Waits until this agent may serve; others wait until this ends.

        Args:
            on_wait: called once another serves.

        Raises:
            DeviceError: inside, when the lock was removed and somebody else's agent has a new one.
        """
        said = ""
        while other := self._try():
            if other != said:
                _LOG.warning(
                    "another agent serves this node, and this one waits until that has ended: %s; a node "
                    "needs one install of gpuyard",
                    other,
                )
                if not said:
                    on_wait()
                said = other
            await asyncio.sleep(_LOOK_S)
        if said:
            _LOG.info("the other agent has ended: this one serves the node now")
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keep(), name="lease")
            try:
                yield
            finally:
                keeping.cancel()
                self._release()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._descriptor is not None and not self._is_in_place(self._descriptor):
                self._release()
                if other := self._try():
                    raise errors.DeviceError(
                        f"{self.path} was removed, and another agent serves this node now: {other}",
                        remedy="a node needs one install of gpuyard",
                    )

    def _try(self) -> str:
        """Takes the lock; says who has it otherwise. Without a file to lock nobody can be told of."""
        try:
            return self._take()
        except OSError as error:
            _LOG.warning(
                "can't see whether another agent serves this node: %s: %s", self.path, error.strerror
            )
            return ""

    def _take(self) -> str:
        make_private_folder(self.path.parent)
        descriptor = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        try:
            if _lock(descriptor, fcntl.F_WRLCK):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(asdict(self._holder)).encode(), 0)
                _lock(descriptor, fcntl.F_RDLCK)
            elif not _lock(descriptor, fcntl.F_RDLCK):
                return "it has begun just now"
            elif not self._may_join(other := _read(descriptor)):
                return str(other)
            if not self._is_in_place(descriptor):
                return "its lock is another file now"
            self._descriptor, descriptor = descriptor, -1
            return ""
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _may_join(self, other: LeaseHolder) -> bool:
        return bool(self._holder.owner) and other.owner == self._holder.owner

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self.path))
        except OSError:
            return False

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int, kind: int) -> bool:
    # Of the open file, not of the process, and without a gap where one for writing becomes one for reading.
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole_file_lock(kind))
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> LeaseHolder:
    try:
        raw = json.loads(os.pread(descriptor, _MAX_BYTES, 0))
        return LeaseHolder(str(raw["owner"]), str(raw["host"]), int(raw["pid"]), str(raw["since"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return LeaseHolder("", "?", 0, "?")
