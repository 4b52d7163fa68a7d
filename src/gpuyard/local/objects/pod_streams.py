"""Streams into a pod's containers: what the API asks of whoever runs them (the kubelet)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from gpuyard.kube.objects import Manifest


@dataclass(frozen=True)
class StreamOptions:
    """Which streams a client wants; sources: `v1.PodExecOptions`, `v1.PodAttachOptions`.

    Attributes:
        stdin, stdout, stderr: whether it wants to write or read it.
        tty: with a terminal, which has no standard error of its own.
    """

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class ProgramInput(Protocol):
    """What is given to a program. The descriptor doesn't block.

    Attributes:
        stdin: where input is written; None where none is taken.
    """

    stdin: int | None

    def close_stdin(self) -> None:
        """There is no more input."""
        ...

    def resize(self, width: int, height: int) -> None:
        """The terminal has this many columns and rows now."""
        ...


class AttachedInput(ProgramInput, Protocol):
    """Input of a container's own command, from one of those who attached."""

    def close(self) -> None:
        """The client has left. The command goes on, with an end of its input where that is to be so."""
        ...


class ContainerStreams(ProgramInput, Protocol):
    """Open streams of one program in a container. Descriptors don't block, and are closed with it.

    Attributes:
        outputs: the descriptors to read by what they are of: 1 for stdout, also of a terminal, 2 for stderr.
    """

    outputs: dict[int, int]

    async def wait(self) -> int | None:
        """Waits for the end of the program; its exit code, None where that isn't the client's."""
        ...

    async def close(self) -> None:
        """The client has what it wanted, or has left: nothing of the streams is left behind."""
        ...


class PodStreams(Protocol):
    """Runs commands in containers, and connects to what runs in them.

    The pod is assigned to a node and has the container.
    """

    async def exec(
        self, pod: Manifest, container: str, command: list[str], options: StreamOptions
    ) -> ContainerStreams:
        """Starts a command in a container.

        Raises:
            BadRequest: the container doesn't run; worded for the user.
            InternalError: the command can't be started.
        """
        ...

    async def attach(self, pod: Manifest, container: str, options: StreamOptions) -> AttachedInput:
        """Connects to a container's own command; what it prints is in its log.

        Raises:
            BadRequest: the container doesn't run; worded for the user.
        """
        ...

    async def connect(self, pod: Manifest, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to a port of the pod's loopback network.

        Raises:
            BadRequest: the pod has ended.
            InternalError: nobody listens there.
        """
        ...
