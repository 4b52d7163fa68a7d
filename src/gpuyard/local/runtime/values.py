"""What the runtime is asked to run, and how a run ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

#: Set in the environment of every container: which one a process belongs to.
ENV_CONTAINER = "GPUYARD_CONTAINER"


@dataclass(frozen=True)
class DeviceNode:
    """A device of the host and the path that the container sees it under."""

    host_path: str
    container_path: str


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host and the path that the container sees it under."""

    host_path: Path
    container_path: str
    read_only: bool = False


@dataclass(frozen=True)
class Limits:
    """Upper bounds, where cgroups can be written. None means unlimited.

    Attributes:
        cpu_milli: thousandths of a core.
        memory_bytes: of the container as a whole; above it the kernel kills.
    """

    cpu_milli: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class ContainerSpec:
    """One container, with everything resolved.

    Attributes:
        name: unique among all starts on this host, for cgroups and for `ENV_CONTAINER`.
        argv: program and arguments; the program is looked up in the `PATH` of `env`.
        env: the whole environment.
        working_dir: absolute.
        devices: nodes to show in /dev besides the usual ones.
        mounts: folders to show besides the host's own file system.
        shm_bytes: size of /dev/shm; None leaves the kernel's default.
        limits: of cpu and memory.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    working_dir: str
    devices: Sequence[DeviceNode] = ()
    mounts: Sequence[Mount] = ()
    shm_bytes: int | None = None
    limits: Limits = field(default_factory=Limits)


class ExitReason(StrEnum):
    """Why a container is terminated, as `containerStatuses` shows it."""

    COMPLETED = "Completed"
    ERROR = "Error"
    OOM_KILLED = "OOMKilled"
    START_ERROR = "StartError"
    NODE_REBOOTED = "NodeRebooted"
    #: It ended, and what would have recorded its exit code was killed.
    UNKNOWN = "ContainerStatusUnknown"


@dataclass(frozen=True)
class Exit:
    """How a container ended.

    Attributes:
        code: the process's own, or 128 + n after signal n.
        finished_at: aware UTC.
    """

    code: int
    reason: ExitReason
    finished_at: datetime
    message: str = ""
