"""Container logs: what the API asks of whoever keeps them (the kubelet)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gpuyard.kube.objects import Manifest


@dataclass(frozen=True)
class PodLogOptions:
    """Which part of a log; source: `v1.PodLogOptions`.

    Attributes:
        follow: go on with what the container writes until it ends.
        tail_lines: only the last so many lines; None for all that is kept.
        limit_bytes: at most so many bytes.
        since_s: only output of the last so many seconds.
        since: only output of that time or later.
        timestamps: each line with its time before it, or in frames each piece with that of its bytes.
        previous: of the container's run before this one.
        in_frames: each piece as `client.log_place.frame` makes it, so that a gap shows.
        promptly: somebody types, and waits for each answer.
    """

    follow: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_s: int | None = None
    since: datetime | None = None
    timestamps: bool = False
    previous: bool = False
    in_frames: bool = False
    promptly: bool = False


@dataclass(frozen=True)
class Log:
    """An open log.

    Attributes:
        pieces: the output, of any size, as it was written; closing it (`aclose`) releases what it holds.
        offset: where in the log the first piece begins. It lets a reader that lost its connection go on
            where it was, though what is old may be dropped meanwhile.
        start: of which start of the container the log is, counted from 0.
    """

    pieces: AsyncGenerator[bytes, None]
    offset: int = 0
    start: int = 0


class PodLogs(Protocol):
    """Reads container logs."""

    async def open_log(self, pod: Manifest, container: str, options: PodLogOptions) -> Log:
        """Opens a log; awaiting it says whether there is one, and doesn't wait for output.

        The pod is assigned to a node and has the container.

        Raises:
            BadRequest: the container hasn't started or has no previous run; worded for the user.
        """
        ...
