"""Processes of the host, read from /proc. Source: proc(5).

A process is gone when /proc says so, and not when this one has no descriptor or memory left to look: then
every function raises that OSError.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessStat:
    """Some fields of /proc/PID/stat.

    Attributes:
        start_ticks: field 22, clock ticks from boot to the start; with the pid and the boot id it names
            one process for ever.
    """

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int

    @property
    def is_dead(self) -> bool:
        """Whether only its parent's wait is missing."""
        return self.state in ("Z", "X")


def is_shortage(error: BaseException | None) -> bool:
    """Whether something failed only for lack of descriptors or memory: the same may succeed soon."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def _read(pid: int, name: str) -> bytes:
    """A file of a process; empty when that is gone or we may not look."""
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except OSError as error:
        if is_shortage(error):
            raise
        return b""


def boot_id() -> str:
    """Changes with every boot of the host."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def parse_stat(text: str) -> ProcessStat:
    """One line of /proc/PID/stat; the command in it may hold spaces and parentheses.

    Raises:
        ValueError: it is none.
    """
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(") ")[2].split()
    if len(fields) < 20:
        raise ValueError(f"{text!r} is no line of /proc/PID/stat")
    return ProcessStat(
        pid=int(pid),
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def read_stat(pid: int) -> ProcessStat | None:
    """The process with this pid, None when there is none."""
    text = _read(pid, "stat").decode(errors="replace")
    return parse_stat(text) if text else None


def all_processes() -> dict[int, ProcessStat]:
    """Every process that is alive."""
    found = (read_stat(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    return {stat.pid: stat for stat in found if stat is not None and not stat.is_dead}


def children(pid: int) -> set[int]:
    """Of a process without threads. Where the kernel lists none, all of the host's are looked at."""
    if (_PROC / f"self/task/{os.getpid()}/children").exists():
        return {int(child) for child in _read(pid, f"task/{pid}/children").split()}
    return {stat.pid for stat in all_processes().values() if stat.parent == pid}


def descendants(roots: Iterable[int], table: Mapping[int, ProcessStat]) -> set[int]:
    """Children of `roots`, their children and so on."""
    children: dict[int, list[int]] = {}
    for stat in table.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        new = [pid for pid in children.get(waiting.pop(), ()) if pid not in found]
        found.update(new)
        waiting.extend(new)
    return found


def with_environment(entry: str, pids: Iterable[int]) -> set[int]:
    """Those that were started with `NAME=value` in their environment, as far as we may look."""
    wanted = b"\0" + entry.encode() + b"\0"
    return {pid for pid in pids if wanted in b"\0" + _read(pid, "environ")}


def environment_value(pid: int, name: str) -> str:
    """What a process was started with in this variable; empty for nothing, or where we may not look."""
    wanted = f"{name}=".encode()
    entries = _read(pid, "environ").split(b"\0")
    return next((os.fsdecode(one.removeprefix(wanted)) for one in entries if one.startswith(wanted)), "")


def descriptor_target(pid: int, number: int) -> str:
    """What a descriptor of a process leads to; empty when there is none or we may not look."""
    try:
        return str((_PROC / str(pid) / "fd" / str(number)).readlink())
    except OSError as error:
        if is_shortage(error):
            raise
        return ""


def descriptor_targets(pid: int) -> set[str]:
    """What all descriptors of a process lead to; empty when it is gone or we may not look."""
    try:
        numbers = [entry.name for entry in (_PROC / str(pid) / "fd").iterdir()]
    except OSError as error:
        if is_shortage(error):
            raise
        return set()
    return {descriptor_target(pid, int(number)) for number in numbers}


def held_sockets(pids: Iterable[int], sockets: set[str]) -> set[str]:
    """Those of the sockets that a process has open, as far as we may look."""
    left = set(sockets)
    for pid in pids:
        if not left:
            break
        left -= descriptor_targets(pid)
    return sockets - left


def pipe_readers(pids: Iterable[int]) -> set[int]:
    """Those whose standard input is a pipe that another of them has as its output: `tee` in `a | tee`."""
    inputs: dict[int, str] = {}
    outputs: dict[str, set[int]] = {}
    for pid in pids:
        for number in (0, 1, 2):
            target = descriptor_target(pid, number)
            if target.startswith("pipe:") and number == 0:
                inputs[pid] = target
            elif target.startswith("pipe:"):
                outputs.setdefault(target, set()).add(pid)
    return {pid for pid, pipe in inputs.items() if outputs.get(pipe, set()) - {pid}}


def topmost(pids: set[int]) -> set[int]:
    """Those whose parent isn't among them; process 1 of their namespace, to which orphans go, is none."""
    parents = {stat.pid: stat.parent for stat in map(read_stat, pids) if stat is not None}
    return {pid for pid, parent in parents.items() if parent not in pids or innermost_pid(parent) == 1}


def has_default_action(pid: int, number: int) -> bool:
    """Whether a process neither handles, ignores nor waits for this signal; False when it is gone."""
    # A signal that process 1 waits for, as the launcher and tini do, is only blocked.
    return _signal_is_in(pid, number, "SigBlk", "SigIgn", "SigCgt") is False


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for this signal."""
    return _signal_is_in(pid, number, "SigCgt") is True


def _signal_is_in(pid: int, number: int, *names: str) -> bool | None:
    """Whether one of these sets of a process's signals has this one; None when it is gone."""
    status = _read(pid, "status").decode(errors="replace")
    sets = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    return any(int(sets[name], 16) >> (number - 1) & 1 for name in names) if sets else None


def innermost_pid(pid: int) -> int | None:
    """Its pid in its own PID namespace; None when it is gone."""
    for line in _read(pid, "status").decode(errors="replace").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return None


def pid_namespace(pid: int) -> int | None:
    """The inode that names its PID namespace; None when it is gone or we may not look."""
    return _namespace(pid, "pid")


def user_namespace(pid: int) -> int | None:
    """The inode that names its user namespace; None when it is gone or we may not look."""
    return _namespace(pid, "user")


def _namespace(pid: int, kind: str) -> int | None:
    try:
        return (_PROC / str(pid) / "ns" / kind).stat().st_ino
    except OSError as error:
        if is_shortage(error):
            raise
        return None
