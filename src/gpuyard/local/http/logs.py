"""Container logs: what the API asks of whoever keeps them (the kubelet)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from gpuyard import errors
from gpuyard.client.log_place import LOG_FRAMES
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.timestamps import LONGEST_S
from gpuyard.local.http.request import Request


@dataclass(frozen=True)
class LogOptions:
    """Which part of a log; source: `v1.PodLogOptions`.

    Attributes:
        follow: go on with what the container writes until it ends.
        tail_lines: only the last so many lines; None for all that is kept.
        limit_bytes: at most so many bytes.
        since_s: only output of the last so many seconds.
        previous: of the container's run before this one.
        in_frames: each piece as `client.log_place.frame` makes it, so that a gap shows.
    """

    follow: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_s: int | None = None
    previous: bool = False
    in_frames: bool = False


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

    async def open_log(self, pod: Manifest, container: str, options: LogOptions) -> Log:
        """Opens a log; awaiting it says whether there is one, and doesn't wait for output.

        The pod is assigned to a node and has the container.

        Raises:
            BadRequest: the container hasn't started or has no previous run; worded for the user.
        """
        ...


def parse_log_options(request: Request) -> LogOptions:
    """Reads the query of a log request.

    Raises:
        BadRequest: a parameter is wrong, or asks for something that the yard doesn't serve.
    """
    for name in ("sinceTime", "timestamps"):
        if request.query.get(name) not in (None, "", "false"):
            raise errors.BadRequest(f"{name} is not served by this yard: its logs carry no times")
    if request.query.get("stream") not in (None, "", "All"):
        raise errors.BadRequest("stream: the yard keeps stdout and stderr in one log; only All is served")
    since_s = request.number("sinceSeconds")
    return LogOptions(
        follow=request.flag("follow"),
        tail_lines=request.number("tailLines"),
        limit_bytes=request.number("limitBytes"),
        since_s=None if since_s is None else min(since_s, LONGEST_S),
        previous=request.flag("previous"),
        in_frames=request.headers.get(b"accept") == LOG_FRAMES.encode(),
    )


def choose_container(pod: Manifest, wanted: str) -> str:
    """The container that a log request means.

    Raises:
        BadRequest: it names none of the pod's, or none where the pod has several, or the pod has no node yet.
    """
    name, spec = pod["metadata"]["name"], pod["spec"]
    names = [c["name"] for field in ("initContainers", "containers") for c in spec.get(field) or ()]
    if not wanted:
        main = [c["name"] for c in spec["containers"]]
        default = annotations_of(pod).get("kubectl.kubernetes.io/default-container")
        if len(main) > 1 and default not in main:
            raise errors.BadRequest(
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
            )
        wanted = default if default is not None and default in main else main[0]
    elif wanted not in names:
        raise errors.BadRequest(f"container {wanted} is not valid for pod {name}")
    if not spec.get("nodeName"):
        raise errors.BadRequest(f"pod {name} does not have a host assigned")
    return wanted
