"""What a cluster has made on this machine, in a file, so that any later process can unmake it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Process:
    """A process that this process may not be the parent of; the start time tells it from a later namesake.

    Attributes:
        start: clock ticks after boot, from /proc.
    """

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Raises: ProcessLookupError: there is none."""
        start = _start_time(pid)
        if start is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, start)

    @property
    def alive(self) -> bool:
        return _start_time(self.pid) == self.start

    @property
    def resident_bytes(self) -> int:
        """0 when it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return pages * os.sysconf("SC_PAGESIZE")

    def signal(self, number: int) -> None:
        """Does nothing when it has ended."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def _start_time(pid: int) -> int | None:
    """None for a zombie, too; one whose other threads still end holds its ports."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and int(fields[17]) <= 1 else int(fields[19])


@dataclass
class State:
    """Everything outside the run's folder that exists because of the cluster.

    All mounts, addresses, bridges and iptables chains live in the namespaces of `init` and end with it.

    Attributes:
        ready: the cluster came up; without it something was interrupted half way.
        init: process 1 of the cluster's pid, network and mount namespaces.
        holders: per node, the process that keeps its mount namespace.
        parts: what runs in the namespaces, by name; a part of a node is NAME@NODE.
        cgroup: name of the cgroup below each controller's root.
        sysctls: values before the kubelet changed them, by path below /proc/sys.
        ports: on 127.0.0.1 of this machine: `api` and `registry`.
        seconds: how long each step of coming up took.
    """

    path: Path
    ready: bool = False
    init: Process | None = None
    holders: dict[str, Process] = field(default_factory=dict)
    parts: dict[str, Process] = field(default_factory=dict)
    cgroup: str = ""
    sysctls: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def save(self) -> None:
        """Replaces the file."""
        raw = {name: value for name, value in asdict(self).items() if name != "path"}
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(raw, indent=2))
        draft.rename(self.path)

    @classmethod
    def load(cls, path: Path) -> State | None:
        """None when there is no such file: no cluster was ever started there, or it was cleared away."""
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        raw["init"] = Process(**raw["init"]) if raw["init"] else None
        for group in ("holders", "parts"):
            raw[group] = {name: Process(**process) for name, process in raw[group].items()}
        return cls(path, **raw)
