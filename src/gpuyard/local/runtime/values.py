"""What the runtime is asked to run, and how a run ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

#: Set in the environment of every container: which one a process belongs to.
ENV_CONTAINER = "GPUYARD_CONTAINER"
#: Set in the environment of what a client runs in a container beside its command: the container again, and
#: which one it is.
ENV_EXEC = "GPUYARD_EXEC"
#: What whoever gets a terminal has in its environment, as in Kubernetes, unless its container says otherwise.
TERMINAL = {"TERM": "xterm"}
#: Where programs are looked for that nobody said a PATH for.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class HostDevice:
    """A device of the host and the path that the container sees it under."""

    host_path: str
    container_path: str


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host and the path that the container sees it under.

    Attributes:
        options: of mount(8): nosuid, nodev, noexec.
    """

    host_path: Path
    container_path: str
    read_only: bool = False
    options: tuple[str, ...] = ()


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
class ImageRun:
    """What a container runs in and as, when that isn't the host's own file system and user.

    Attributes:
        image_id: of an image that podman has.
        entrypoint: in the place of the image's own and its arguments; None keeps both.
        user: "UID" or "UID:GID"; empty for the image's own.
        groups: further group ids.
        add_capabilities: names without CAP_, or ALL.
        drop_capabilities: the same.
        no_new_privileges: no program may gain any by its file's mode.
        read_only_root: only mounts can be written.
        unconfined: system calls aren't filtered.
    """

    image_id: str
    entrypoint: tuple[str, ...] | None = None
    user: str = ""
    groups: tuple[int, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    read_only_root: bool = False
    unconfined: bool = False


@dataclass(frozen=True)
class ContainerSpec:
    """One container, with everything resolved.

    Attributes:
        name: unique among all starts on this host, for cgroups and for `ENV_CONTAINER`.
        argv: program and arguments; the program is looked up in the `PATH` of `env`. With an image:
            arguments of its entrypoint, none for the image's own.
        env: the whole environment; with an image, what is added to the image's.
        working_dir: absolute; with an image, empty for the image's own.
        devices: nodes to show in /dev besides the usual ones.
        mounts: folders to show besides the host's own file system.
        shm_bytes: size of /dev/shm; 0 for no bound, None for the usual one: with an image Kubernetes' 64 MiB,
            else no bound.
        limits: of cpu and memory.
        image: None for a process of the host.
        held: descriptors that something keeps open for as long as the container lives, whatever becomes of
            this process: see `start_copier`.
        stdin: whoever attaches gives its input; without, it is /dev/null.
        stdin_once: the input ends when the first one who attached has left; a terminal's never does.
        tty: it has a terminal.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    working_dir: str
    devices: Sequence[HostDevice] = ()
    mounts: Sequence[Mount] = ()
    shm_bytes: int | None = None
    limits: Limits = field(default_factory=Limits)
    image: ImageRun | None = None
    held: Sequence[int] = ()
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


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
