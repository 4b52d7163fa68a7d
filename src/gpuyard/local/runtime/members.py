"""The processes of one container: which one is the command, which are alive, and how to kill them all."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol, TypeVar

from gpuyard import errors
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.values import ENV_CONTAINER

Seen = TypeVar("Seen")
_SHORTAGE_PAUSE_S = 0.05


class Members(Protocol):
    """A look at the host's processes; the one that the daemon started is not among the members.

    Every method may raise the OSError of a process that has no descriptor or memory left, see `patiently`.
    """

    def command(self) -> int | None:
        """The user's command, None before it is there and after it is gone."""
        ...

    def alive(self) -> set[int]:
        """Every member that is alive. May take some milliseconds."""
        ...

    def kill(self) -> None:
        """SIGKILL to all of them."""
        ...


class Namespace:
    """A PID namespace: the kernel knows its members, and kills them all with its process 1."""

    def __init__(self, journal: Journal) -> None:
        self._init = journal.init_pid
        self._namespace = journal.pid_namespace

    def command(self) -> int | None:
        """See `Members.command`."""
        if not self._is_alive():
            return None
        assert self._init is not None
        # Bubblewrap itself is process 1; the command is what it forks first.
        return next((pid for pid in procfs.children(self._init) if procfs.innermost_pid(pid) == 2), None)

    def alive(self) -> set[int]:
        """See `Members.alive`."""
        if self._init is None or not self._is_alive():
            return set()
        return {self._init} | procfs.descendants([self._init], procfs.all_processes())

    def kill(self) -> None:
        """See `Members.kill`."""
        if self._init is not None and self._is_alive():
            send([self._init], signal.SIGKILL)

    def _is_alive(self) -> bool:
        """Whether the pid is still our process 1 and no later process that got its number."""
        if self._init is None:
            return False
        stat = procfs.read_stat(self._init)
        if stat is None or stat.is_dead or procfs.innermost_pid(self._init) != 1:
            return False
        # Older releases don't tell it, and we can't read it where bwrap is installed setuid.
        return self._namespace is None or procfs.pid_namespace(self._init) in (None, self._namespace)


def marked(name: str) -> set[int]:
    """Members of a container without a journal: who bears its mark, and their PID namespaces of its own."""
    table = procfs.all_processes()
    found = procfs.with_environment(f"{ENV_CONTAINER}={name}", table)
    namespaces = {procfs.pid_namespace(pid) for pid in found} - {procfs.pid_namespace(os.getpid()), None}
    if namespaces:
        found |= {pid for pid in table if procfs.pid_namespace(pid) in namespaces}
    return found


async def patiently(look: Callable[[], Seen]) -> Seen:
    """What `look` gives, in a thread; it looks again while this process lacks descriptors or memory."""
    while True:
        try:
            return await asyncio.to_thread(look)
        except (OSError, errors.ProcessError) as error:
            if not (procfs.is_shortage(error) or procfs.is_shortage(error.__cause__)):
                raise
            await asyncio.sleep(_SHORTAGE_PAUSE_S)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signals those that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
