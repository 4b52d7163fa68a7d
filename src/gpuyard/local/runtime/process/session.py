"""The processes of a container that is a process of the host."""

from __future__ import annotations

import signal

from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.members import send
from gpuyard.local.runtime.values import ENV_CONTAINER


class Session:
    """A session of its own, and whoever left it but kept the container's mark or cgroup."""

    def __init__(self, journal: Journal, cgroups: Cgroups) -> None:
        self._started = journal.started
        self._name = journal.name
        self._cgroups = cgroups

    def command(self) -> int | None:
        """See `Members.command`."""
        if self._started is None or not self._is_session_ours():
            return None
        return next(iter(procfs.children(self._started.pid)), None)

    def alive(self) -> set[int]:
        """See `Members.alive`."""
        table = procfs.all_processes()
        found = self._cgroups.pids(self._name) & set(table)
        found |= procfs.with_environment(f"{ENV_CONTAINER}={self._name}", table)
        if self._started is not None and self._is_session_ours():
            found |= {stat.pid for stat in table.values() if stat.session == self._started.pid}
        return found - ({self._started.pid} if self._started else set())

    def kill(self) -> None:
        """See `Members.kill`."""
        send(self.alive(), signal.SIGKILL)

    def _is_session_ours(self) -> bool:
        """Whether the session's number can't be another's by now: its leader is there, dead or alive."""
        assert self._started is not None
        leader = procfs.read_stat(self._started.pid)
        return leader is not None and leader.start_ticks == self._started.start_ticks
