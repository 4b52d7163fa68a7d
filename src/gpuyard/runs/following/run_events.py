"""A run's life as a series of events: what it waits for, its output, attempt after attempt, and its end.

Nothing here prints, or knows of a terminal: whoever iterates decides what becomes of an event. Closing the
generator, or cancelling the task that iterates, ends the following; the run goes on.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.client.log_place import LogOptions
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.runs.following.pod_log import Away, Back, LogEvent, PodLog, away_text, check_options, start_of
from gpuyard.runs.run import Run, has_ended
from gpuyard.runs.target import Target

if TYPE_CHECKING:
    from gpuyard.runs.following.run_watch import RunWatch
    from gpuyard.runs.following.waiting import Waiting

WHOLE_LOG = LogOptions()
_SETTLE_S = 1.0
#: How long a state that usually passes is left alone before it is asked what it waits for.
_PASSING_S = 2.0


@dataclass(frozen=True)
class AttemptBegan:
    """The output that follows is of this attempt, counted from 1; `is_only` while no other is known."""

    number: int
    is_only: bool


@dataclass(frozen=True)
class Waits:
    """The run has nothing to print; `waiting` says what for, where that may last."""

    run: Run
    waiting: Waiting | None = None


@dataclass(frozen=True)
class Ended:
    """Nothing of the run is alive any more; the last event."""

    run: Run


Event = LogEvent | AttemptBegan | Waits | Ended


async def follow(
    target: Target, name: str, options: LogOptions = WHOLE_LOG, *, refresh_s: float | None = None
) -> AsyncGenerator[Event, None]:
    """Follows a run to its end.

    Args:
        target: where it is.
        name: of a run that is there.
        options: which part of each attempt's log.
        refresh_s: how often `Waits` comes again, as what others hold changes without any change of the
            run's own; None for whoever wants it only when it lasts, and anew when the run changes.

    Raises:
        UsageError: the target can't do what the options say.
        GpuyardError: it was removed, or waits for nothing that could come.
        ConnectionFailed: the API has been away for a minute.
    """
    # `logs` without -f reads what is there, and watches nothing.
    from gpuyard.runs.following.run_watch import RunWatch

    check_options(target, options)
    watch = RunWatch(target, name)
    logs: dict[str, PodLog] = {}
    read: set[tuple[str, int]] = set()
    is_away = False
    async with watch.watching():
        while True:
            if watch.is_away != is_away:
                is_away = watch.is_away
                yield Away(away_text(target, name)) if is_away else Back()
            if not watch.is_synced:
                await watch.change()
                continue
            run = watch.run
            due = _next_log(run, read)
            if due is not None:
                pod, start = due
                if uid_of(pod) not in logs:
                    yield AttemptBegan(len(logs) + 1, is_only=not logs and len(_with_output(run)) == 1)
                    logs[uid_of(pod)] = PodLog(target, pod, options)
                async with aclosing(logs[uid_of(pod)].follow(start)) as log:
                    async for event in log:
                        yield event
                read.add((uid_of(pod), start))
            elif has_ended(run):
                yield Ended(run)
                return
            elif (
                run.state.reason == "Running"
            ):  # its output is over, and its pod is about to say how it ended
                await watch.change()
            else:
                async with aclosing(_wait(target, watch, refresh_s)) as waits:
                    async for said in waits:
                        yield said


def _next_log(run: Run, read: set[tuple[str, int]]) -> tuple[Manifest, int] | None:
    """The first pod that has output of a start which hasn't been read, and that start."""
    for pod in run.pods:
        start, uid = start_of(pod), uid_of(pod)
        if start is None or (uid, start) in read:
            continue
        # While it waits to be started again there is nothing new.
        if start >= 0 or not any(uid == other for other, _ in read):
            return pod, start
    return None


def _with_output(run: Run) -> list[Manifest]:
    return [pod for pod in run.pods if start_of(pod) is not None]


async def _wait(target: Target, watch: RunWatch, refresh_s: float | None) -> AsyncGenerator[Waits, None]:
    """Says what the run waits for, until something about it changes.

    Raises:
        GpuyardError: it waits for nothing that could come.
    """
    from gpuyard.runs.following.waiting import LASTING, PASSING, find_waiting

    run = watch.run
    if refresh_s is None and await watch.change(within_s=_SETTLE_S):
        return
    if run.state.reason in PASSING:
        yield Waits(run)
        # Most runs start within that time, and asking why takes some of it.
        if await watch.change(within_s=_PASSING_S):
            return
    if run.state.reason not in PASSING | LASTING:
        yield Waits(run)
        await watch.change()
        return
    waiting = await find_waiting(target, run)
    if waiting.final:
        remove = target.command("rm", "--force", run.name)
        raise errors.GpuyardError(
            "\n  ".join(waiting.advice),
            remedy=f"it never starts, and keeps its place until you remove it: {remove}",
        )
    yield Waits(run, waiting)
    await watch.change(within_s=math.inf if refresh_s is None else refresh_s)


async def read_logs(
    target: Target, run: Run, options: LogOptions = WHOLE_LOG
) -> AsyncGenerator[LogEvent | AttemptBegan, None]:
    """What the run has printed so far, attempt after attempt; last lines are those of the last one.

    Raises:
        UsageError: the target can't do what the options say.
        ApiError, ConnectionFailed: it can't be read.
    """
    check_options(target, options)
    pods = _with_output(run)
    for number, pod in enumerate(pods, 1):
        if options.tail_lines is not None and number < len(pods):
            continue
        yield AttemptBegan(number, is_only=len(pods) == 1 or options.tail_lines is not None)
        async with aclosing(PodLog(target, pod, options).read()) as log:
            async for event in log:
                yield event
