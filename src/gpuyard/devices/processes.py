"""Whose a process on a GPU is: its user, its program, since when, and whether a yard or a kubelet started it.

All of it is read from /proc, where a process may vanish at any moment, where other users' may be hidden
(`hidepid`), and where in a container the pids are others than those that the driver tells. What can't be seen
is unknown, and nobody is blamed for it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from gpuyard.devices.gpu_locks import YardHold, user_name

#: In the environment of each process that a yard starts, see `local.runtime.values`.
_YARD_MARK = b"\0GPUYARD_CONTAINER="
#: In the path of its cgroup: a yard's, where it may make any, and a kubelet's with each driver of cgroups.
_YARD_CGROUP = re.compile(r"/gpuyard-[0-9a-f]{10}(?:/|$)", re.MULTILINE)
_KUBELET_CGROUP = re.compile(
    r"[/:]kubepods(?:[-./]|$)"
    # Without it, as an agent's container in a cgroup namespace of its own sees pods and containers beside it.
    r"|:(?:/\.\.)+(?:/burstable|/besteffort)?/(?:pod[0-9a-f-]{32,36}|[a-z-]*[0-9a-f]{64}(?:\.scope)?)(?:/|$)",
    re.MULTILINE,
)
#: The first in such a path: below it a container may make cgroups of any name.
_POD_UID = re.compile(
    r"[/-]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:[/.]|$)", re.MULTILINE
)
_EXITING = 0x4  # PF_EXITING of the kernel's sched.h
_DEAD = "ZXx"
#: The inode of the first PID namespace of a machine, PROC_PID_INIT_INO.
_FIRST_NAMESPACE = "pid:[4026531836]"
_MAX_ANCESTORS = 64
_MAX_COMMAND_LENGTH = 40
_MAX_BYTES = 256 << 10
#: The clocks that a start time is reckoned from aren't read at one moment.
_SAME_S = 3.0


class Starter(StrEnum):
    """Who started a process."""

    RUN = "run"
    KUBELET = "kubelet"
    FOREIGN = "foreign"
    #: It is ending, and the driver takes back what it has.
    LEAVING = "leaving"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ProcessFacts:
    """A process as /proc tells of it.

    Attributes:
        pid: as in this PID namespace.
        uid: whose it is; None where that can't be seen.
        command: the name of its program, without arguments: they may be secret.
        since: when it began; None where that can't be seen.
        starter: see `ProcessTable.look`.
    """

    pid: int
    uid: int | None
    command: str
    since: datetime | None
    starter: Starter

    @property
    def user(self) -> str:
        """Its user's name; empty where that can't be seen."""
        return "" if self.uid is None else user_name(self.uid)


@dataclass(frozen=True)
class _Stat:
    state: str
    parent: int
    flags: int
    start_ticks: int
    command: str

    @property
    def is_leaving(self) -> bool:
        return self.state in _DEAD or bool(self.flags & _EXITING)


class ProcessTable:
    """The processes of this machine, asked about one by one.

    Args:
        proc: where proc is mounted; in a container it may be the host's.
        clock: aware UTC now.
        seconds: since boot, suspends included, as the kernel counts the starts of processes.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        seconds: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._seconds = seconds
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._since: dict[tuple[int, int], datetime] = {}

    def look(self, pid: int, holds: Iterable[YardHold] | None) -> ProcessFacts | None:
        """What there is to know of a process that is on a GPU; None when it is gone.

        A yard's process bears a mark, which anybody could put on his own. It counts where a yard has the GPU:
        that of the process's user or root's; each yard locks what it gives out. Another user's environment
        can't be read, so all processes of a user whose yard has the GPU are taken for runs. A pod's process
        is in a kubelet's cgroup, which only root can put it into.

        Args:
            pid: as the driver tells it.
            holds: of yards, on its GPU; None where yards don't lock GPUs, so the mark alone counts.
        """
        stat = self._stat(pid)
        if stat is None:
            return self._unseen(pid)
        uid = self._uid(pid)
        return ProcessFacts(
            pid, uid, self._command(pid, stat), self._began(pid, stat), self._starter(pid, stat, uid, holds)
        )

    def keep(self, pids: Iterable[int]) -> None:
        """Forgets all other processes."""
        kept = set(pids)
        self._since = {key: since for key, since in self._since.items() if key[0] in kept}

    def _unseen(self, pid: int) -> ProcessFacts | None:
        """It is gone; or this process can't see it, as in a container or with `hidepid`."""
        unknown = ProcessFacts(pid, None, "", None, Starter.UNKNOWN)
        if not self.sees_pids:
            return unknown
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return None
        except PermissionError:
            return unknown
        # It is there after all, or another one is by now: the next look tells.
        return unknown

    @property
    def sees_pids(self) -> bool:
        """Whether pids here are those that the driver tells."""
        # Of the host's proc, which a container may have mounted, the first process is the machine's.
        return any(self._namespace(pid) == _FIRST_NAMESPACE for pid in ("self", "1"))

    def _namespace(self, pid: str) -> str:
        try:
            return str((self._proc / pid / "ns/pid").readlink())
        except OSError:
            return ""

    def variable(self, pid: int, name: str) -> str:
        """Of the environment that a process was started with; empty where it isn't there or can't be seen."""
        mark = b"\0" + name.encode() + b"="
        _, _, rest = (b"\0" + self._read(pid, "environ")).partition(mark)
        return rest.partition(b"\0")[0].decode(errors="replace")

    def pod_uid(self, pid: int) -> str:
        """Of the pod that it is in, which it can't choose; empty for one that no kubelet started."""
        cgroup = self._read(pid, "cgroup").decode(errors="replace")
        found = _POD_UID.search(cgroup) if _KUBELET_CGROUP.search(cgroup) else None
        return found[1].replace("_", "-") if found else ""

    def _starter(self, pid: int, stat: _Stat, uid: int | None, holds: Iterable[YardHold] | None) -> Starter:
        if stat.is_leaving:
            return Starter.LEAVING
        cgroup = self._read(pid, "cgroup").decode(errors="replace")
        if _KUBELET_CGROUP.search(cgroup):
            return Starter.KUBELET
        owners = None if holds is None else {hold.uid for hold in holds}
        is_marked = bool(_YARD_CGROUP.search(cgroup)) or self._is_marked(pid)
        if owners is None:
            return Starter.RUN if is_marked else Starter.FOREIGN
        if is_marked and owners & {uid, 0, os.geteuid()}:
            return Starter.RUN
        if uid in owners and uid != os.geteuid():
            return Starter.RUN
        return Starter.FOREIGN

    def _is_marked(self, pid: int) -> bool:
        """Whether the process or one that it comes from bears a yard's mark, or is this agent."""
        for _ in range(_MAX_ANCESTORS):
            if pid == self._own_pid() or _YARD_MARK in b"\0" + self._read(pid, "environ"):
                return True
            stat = self._stat(pid)
            if stat is None or stat.parent <= 1:
                return False
            pid = stat.parent
        return False

    def _own_pid(self) -> int:
        """Of this process, as the proc that is looked at numbers it."""
        try:
            return int((self._proc / "self").readlink().name)
        except (OSError, ValueError):
            return os.getpid()

    def _began(self, pid: int, stat: _Stat) -> datetime:
        """The same at each look, but where the wall clock was set meanwhile."""
        age_s = max(0.0, self._seconds() - stat.start_ticks / self._ticks_per_s)
        began = self._clock() - timedelta(seconds=age_s)
        key = (pid, stat.start_ticks)
        known = self._since.get(key)
        if known is None or abs((known - began).total_seconds()) > _SAME_S:
            self._since[key] = known = began
        return known

    def _uid(self, pid: int) -> int | None:
        for line in self._read(pid, "status").decode(errors="replace").splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[1])
        return None

    def _command(self, pid: int, stat: _Stat) -> str:
        """The name of the program; that of the thread where it says no other, as of a kernel's."""
        argument = self._read(pid, "cmdline").partition(b"\0")[0].decode(errors="replace")
        # Some put all of it into the first argument, as sshd does.
        name = argument.split(" ")[0].rpartition("/")[2] or stat.command
        return "".join(filter(str.isprintable, name))[:_MAX_COMMAND_LENGTH]

    def _stat(self, pid: int) -> _Stat | None:
        text = self._read(pid, "stat").decode(errors="replace")
        head, _, rest = text.rpartition(") ")
        fields = rest.split()
        try:
            return _Stat(
                state=fields[0],
                parent=int(fields[1]),
                flags=int(fields[6]),
                start_ticks=int(fields[19]),
                command=head.partition(" (")[2],
            )
        except (IndexError, ValueError):
            return None

    def _read(self, pid: int, name: str) -> bytes:
        try:
            with (self._proc / str(pid) / name).open("rb") as file:
                return file.read(_MAX_BYTES)
        except OSError:
            return b""
