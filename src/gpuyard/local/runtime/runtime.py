"""The protocol of a runtime: one way to run containers on this host, and what it applies of a pod."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.exec_process import ContainerEntry
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.members import Members
from gpuyard.local.runtime.values import ContainerSpec


@dataclass(frozen=True)
class Applied:
    """What a runtime applies of a pod.

    Attributes:
        isolation: what keeps its containers apart: "bubblewrap", "podman" or "none".
        mounts: whether a container has mounts of its own: volumes, and a /dev/shm of a size.
        pod_security: fields of the pod's securityContext.
        container_security: fields of a container's securityContext.
    """

    isolation: str
    mounts: bool
    pod_security: frozenset[str] = frozenset()
    container_security: frozenset[str] = frozenset()


class Runtime(Protocol):
    """Starts containers, each in a new folder that is enough for a later daemon to adopt it.

    Containers outlive the daemon. Methods belong to the running event loop.
    """

    @property
    def applied(self) -> Applied:
        """What it applies of a pod."""
        ...

    async def start(self, folder: Path, spec: ContainerSpec) -> Container:
        """Starts a container in a new folder.

        Raises:
            StartError: what it needs isn't there or isn't permitted. The journal says so too: an adoption
                gives the Exit.
            ProcessError: the folder can't be made.
            ImageError: this runtime can't run here.
        """
        ...

    def attach(self, folder: Path, journal: Journal) -> Container:
        """The handle of a start of its own, which the journal says got going."""
        ...

    def members(self, journal: Journal) -> Members:
        """The processes of a start of its own, which the journal says got going."""
        ...

    async def enter(self, folder: Path, command: Sequence[str], *, tty: bool, mark: str) -> ContainerEntry:
        """How a command gets into a start of its own, which the journal says got going.

        Args:
            folder: of the start.
            command: program and arguments; the program is looked up in the container.
            tty: it will have a terminal.
            mark: see `ContainerEntry`.

        Raises:
            BadRequest: the container has ended.
        """
        ...

    async def discard(self, name: str) -> None:
        """Removes what is left of a start of its own that never got going."""
        ...
