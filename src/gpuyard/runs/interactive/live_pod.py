"""The pod of a run that one can get into, by its rank."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.wellknown import IMAGE_PROCESS
from gpuyard.runs.run import (
    Run,
    check_ranks,
    has_ended,
    has_ranks,
    is_alive,
    rank_of,
    state_and_reason,
)
from gpuyard.runs.target import Target

#: A pod that isn't there, see `check_right`.
NO_POD = "gpuyard-asks-for-rights"


@dataclass(frozen=True)
class LivePod:
    """A pod whose container runs.

    Attributes:
        run: the name of its run.
        name, container: where the process is.
        has_stdin, has_tty: whether the container was made with standard input, and with a terminal.
        has_image: whether its programs are those of an image, not of the yard's machine.
        rank: which one of its run's it is; None where it is the only one.
    """

    run: str
    name: str
    container: str
    has_stdin: bool = False
    has_tty: bool = False
    has_image: bool = True
    rank: int | None = None


async def check_right(opening: AbstractAsyncContextManager[object]) -> None:
    """Whether the user may get into pods so, before they wait for one.

    Args:
        opening: a way into NO_POD. An API server looks at rights before it looks for the pod.

    Raises:
        Forbidden: they may not.
        ConnectionFailed: nobody answers, or somebody between doesn't let WebSockets through.
    """
    try:
        async with opening:
            pass
    except errors.Forbidden:
        raise
    except errors.ApiError:  # as it should
        pass


def live_pod(target: Target, run: Run, rank: int | None) -> LivePod:
    """The pod of a rank, 0 where none is named.

    Raises:
        UsageError: the run has no such rank.
        GpuyardError: the run, or this rank of it, has ended or hasn't started.
    """
    wanted = rank or 0
    check_ranks(run, [wanted])
    if has_ended(run):
        raise errors.GpuyardError(
            f"{run.name} has ended ({run.state.state}): nothing runs in it any more",
            remedy=f"its output is kept: {target.command('logs', run.name)}",
        )
    of_rank = [pod for pod in run.pods if not has_ranks(run) or rank_of(pod) == wanted]
    for pod in reversed(of_rank):
        if found := as_live_pod(run.name, pod, wanted if has_ranks(run) else None):
            return found
    running = [str(rank_of(pod)) for pod in run.pods if _running(pod)]
    others = f"; --rank {' or '.join(dict.fromkeys(running))} runs" if running else ""
    name = f"rank {wanted} of {run.name}" if has_ranks(run) else run.name
    if of_rank and not any(map(is_alive, of_rank)) and running:
        raise errors.GpuyardError(
            f"{name} has ended: nothing runs in it any more",
            remedy=f"its output is kept: {target.command('logs', '--rank', str(wanted), run.name)}{others}",
        )
    raise errors.GpuyardError(
        f"{name} doesn't run yet: {run.state.message or state_and_reason(run.state)}",
        remedy=f"why it waits: {target.command('explain', run.name)}{others}",
    )


def as_live_pod(name: str, pod: Manifest, rank: int | None = None) -> LivePod | None:
    """The pod of the run or service of this name; None while its container doesn't run."""
    container = _running(pod)
    if not container:
        return None
    made = pod["spec"]["containers"][0]
    streams = bool(made.get("stdin")), bool(made.get("tty"))
    return LivePod(
        name, pod["metadata"]["name"], container, *streams, made.get("image") != IMAGE_PROCESS, rank
    )


def _running(pod: Manifest) -> str:
    """The container to get into, the pod's first; empty while it doesn't run."""
    name: str = pod["spec"]["containers"][0]["name"]
    if not is_alive(pod) or "deletionTimestamp" in pod["metadata"]:
        return ""
    running = [one["name"] for one in container_statuses(pod) if "running" in (one.get("state") or {})]
    return name if name in running else ""
