"""Container logs: what the API asks of whoever keeps them (the kubelet)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from gpuyard.kube.objects import Manifest


@dataclass(frozen=True)
class LogOptions:
    """Which part of a log; source: `v1.PodLogOptions`.

    Attributes:
        follow: go on with what the container writes until it ends.
        tail_lines: only the last so many lines; None for all that is kept.
        limit_bytes: at most so many bytes.
        since_s: only output of the last so many seconds.
        previous: of the container's run before this one.
    """

    follow: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_s: int | None = None
    previous: bool = False


class PodLogs(Protocol):
    """Reads container logs."""

    async def open_log(
        self, pod: Manifest, container: str, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """Opens a log; awaiting it says whether there is one, and doesn't wait for output.

        The pod is assigned to a node and has the container. The generator gives the output in pieces
        of any size, as it was written; closing it (`aclose`) releases what it holds.

        Raises:
            BadRequest: the container hasn't started or has no previous run; worded for the user.
        """
        ...
