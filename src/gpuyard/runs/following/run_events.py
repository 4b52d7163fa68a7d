"""A run's life as a series of events: what it waits for, its output, attempt after attempt, and its end.

Nothing here prints, or knows of a terminal: whoever iterates decides what becomes of an event. Closing the
generator, or cancelling the task that iterates, ends the following; the run goes on.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.client.log_place import Gap, LogOptions
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.runs.attempts import LostAttempt, gone_attempts, is_cut_short, lost_attempt
from gpuyard.runs.following.pod_log import Away, Back, LogEvent, PodLog, away_text, start_of
from gpuyard.runs.following.ranks import Numbering, OfRank, RankLogs, read_ranks
from gpuyard.runs.run import Run, has_ended, has_ranks
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import is_stopped
from gpuyard.workloads.pod_failure_policy import is_over

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
class CutShort:
    """The output of an attempt ends here, since others ended it or its node refused it; the next follows."""

    attempt: LostAttempt


@dataclass(frozen=True)
class Waits:
    """The run has nothing to print; `waiting` says what for, where that may last."""

    run: Run
    waiting: Waiting | None = None


@dataclass(frozen=True)
class Ended:
    """Nothing of the run is alive any more; the last event."""

    run: Run


Event = LogEvent | OfRank | AttemptBegan | CutShort | Waits | Ended


async def follow(
    target: Target,
    name: str,
    options: LogOptions = WHOLE_LOG,
    *,
    refresh_s: float | None = None,
    is_new: bool = False,
    ranks: Collection[int] = (),
) -> AsyncGenerator[Event, None]:
    """Follows a run to its end.

    Args:
        target: where it is.
        name: of a run that is there.
        options: which part of each attempt's log.
        refresh_s: how often `Waits` comes again, as what others hold changes without any change of the
            run's own; None for whoever wants it only when it lasts, and anew when the run changes.
        is_new: it was submitted just now, so that no attempt has come and gone.
        ranks: of a run of several pods, those whose output is wanted; empty for all.

    Raises:
        GpuyardError: it was removed, or waits for nothing that could come.
        ConnectionFailed: the API has been away for a minute.
    """
    # `logs` without -f reads what is there, and watches nothing.
    from gpuyard.runs.following.run_watch import RunWatch

    watch = RunWatch(target, name)
    async with watch.watching():
        reach = _Reach(target, watch)
        while not watch.is_synced:
            for said in reach.changes():
                yield said
            await watch.change()
        if has_ranks(watch.run):
            from gpuyard.runs.tasks import with_tasks

            sweep = (await with_tasks(target, watch.run)).sweep
            logs = RankLogs(target, options, ranks, Numbering(sweep))
            events = _follow_ranks(target, watch, reach, logs, refresh_s)
        else:
            attempts = _Attempts(target, options, is_new=is_new)
            events = _follow_one(target, watch, reach, attempts, refresh_s)
        async with aclosing(events):
            async for event in events:
                yield event


class _Reach:
    """What has been said of whether the API answers."""

    def __init__(self, target: Target, watch: RunWatch) -> None:
        self._target = target
        self._watch = watch
        self._is_away = False

    def changes(self) -> Iterator[Away | Back]:
        """What is new since the last look."""
        if self._watch.is_away != self._is_away:
            self._is_away = self._watch.is_away
            yield Away(away_text(self._target, self._watch.name)) if self._is_away else Back()


async def _follow_one(
    target: Target, watch: RunWatch, reach: _Reach, attempts: _Attempts, refresh_s: float | None
) -> AsyncGenerator[Event, None]:
    """As `follow`, of a run that has one pod at a time: attempt after attempt."""
    while True:
        for change in reach.changes():
            yield change
        run = watch.run
        due = attempts.next_log(run)
        if cut := attempts.next_cut(run, watch.gone):
            yield CutShort(await lost_attempt(target, cut))
        elif due is not None:
            async with aclosing(attempts.read(run, *due)) as events:
                async for event in events:
                    yield event
        elif has_ended(run):
            yield Ended(run)
            return
        elif run.state.reason == "Running":  # its output is over, and its pod is about to say how it ended
            await watch.change()
        else:
            async with aclosing(_wait(target, watch, refresh_s)) as waits:
                async for said in waits:
                    yield said


async def _follow_ranks(
    target: Target,
    watch: RunWatch,
    reach: _Reach,
    logs: RankLogs,
    refresh_s: float | None,
) -> AsyncGenerator[Event, None]:
    """As `follow`, of a run of several pods: their output as it comes."""
    told = ""
    async with logs:
        changed = asyncio.create_task(watch.change(), name="change of the run")
        try:
            while True:
                for change in reach.changes():
                    yield change
                run = watch.run
                logs.update(run.pods)
                for piece in logs.ready():
                    yield piece
                waits_for = "" if run.state.reason == "Running" else str(run.state.reason)
                if logs.is_idle and has_ended(run):
                    yield Ended(run)
                    return
                if waits_for and waits_for != told:
                    said = await _said_of_waiting(target, run)
                    if said is not None:
                        told = waits_for
                        yield said
                arrived = asyncio.create_task(logs.next(), name="output of a rank")
                await asyncio.wait({changed, arrived}, timeout=refresh_s, return_when=asyncio.FIRST_COMPLETED)
                if arrived.done():
                    yield arrived.result()
                else:
                    arrived.cancel()
                if changed.done():
                    changed.result()
                    changed = asyncio.create_task(watch.change(), name="change of the run")
        finally:
            changed.cancel()
            await asyncio.gather(changed, return_exceptions=True)


async def _said_of_waiting(target: Target, run: Run) -> Waits | None:
    """What the run waits for, where that may last; None where it usually passes.

    Raises:
        GpuyardError: it waits for nothing that could come.
    """
    from gpuyard.runs.following.waiting import LASTING, find_waiting

    if run.state.reason not in LASTING:
        return None
    return _waits(target, run, await find_waiting(target, run))


class _Attempts:
    """What has been read of a run's attempts, and said of how they ended."""

    def __init__(self, target: Target, options: LogOptions, *, is_new: bool) -> None:
        self._target = target
        self._options = options
        self._logs: dict[str, PodLog] = {}
        self._read: set[tuple[str, int]] = set()
        self._told: set[str] = set()
        #: Those whose pods were gone when the following began; None until that is known.
        self._before: list[LostAttempt] | None = [] if is_new else None

    def next_log(self, run: Run) -> tuple[Manifest, int] | None:
        """The first pod that has output of a start which hasn't been read, and that start."""
        for pod in run.pods:
            start, uid = start_of(pod), uid_of(pod)
            if start is None or (uid, start) in self._read:
                continue
            # While it waits to be started again there is nothing new.
            if start >= 0 or not any(uid == other for other, _ in self._read):
                return pod, start
        return None

    async def read(
        self, run: Run, pod: Manifest, start: int
    ) -> AsyncGenerator[LogEvent | AttemptBegan, None]:
        """The output of this start, to its end."""
        uid = uid_of(pod)
        if self._before is None:
            self._before = await gone_attempts(self._target, run.job, run.pods)
            for gap in _unreadable(self._before) if self._options.is_whole else ():
                yield gap
        if uid not in self._logs:
            number = len(self._before) + len(self._logs) + 1
            yield AttemptBegan(number, is_only=number == 1 and len(_with_output(run)) == 1)
            self._logs[uid] = PodLog(self._target, pod, self._options)
        async with aclosing(self._logs[uid].follow(start)) as log:
            async for event in log:
                yield event
        self._read.add((uid, start))

    def next_cut(self, run: Run, gone: Sequence[Manifest]) -> Manifest | None:
        """The first pod that was cut short, whose output is read and of which nothing was said, where
        another follows.

        Args:
            run: as it is now.
            gone: its pods that are deleted.
        """
        for pod in (*gone, *run.pods):
            uid, start, is_gone = uid_of(pod), start_of(pod), pod in gone
            if uid in self._told or not is_cut_short(pod, is_gone=is_gone) or not _is_made_again(run, pod):
                continue
            if is_gone or start is None or (uid, start) in self._read:
                self._told.add(uid)
                return pod
        return None


def _unreadable(attempts: Sequence[LostAttempt]) -> Iterator[Gap]:
    for number, attempt in enumerate(attempts, 1):
        at = f" at {attempt.ended}" if attempt.ended else ""
        yield Gap(f"(attempt {number} was {attempt.text}{at}; its pod {attempt.pod} is gone, and its output)")


def _is_made_again(run: Run, pod: Manifest) -> bool:
    """Whether another attempt follows this one, which is over."""
    return not (is_stopped(run.job) or has_ended(run) or is_over(run.job, [pod]))


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
    yield _waits(target, run, await find_waiting(target, run))
    await watch.change(within_s=math.inf if refresh_s is None else refresh_s)


def _waits(target: Target, run: Run, waiting: Waiting) -> Waits:
    if waiting.final:
        remove = target.command("rm", "--force", run.name)
        raise errors.GpuyardError(
            "\n  ".join(waiting.advice),
            remedy=f"it never starts, and keeps its place until you remove it: {remove}",
        )
    return Waits(run, waiting)


async def read_logs(
    target: Target, run: Run, options: LogOptions = WHOLE_LOG, ranks: Collection[int] = ()
) -> AsyncGenerator[LogEvent | OfRank | AttemptBegan | CutShort, None]:
    """What the run has printed so far, attempt after attempt; last lines are those of the last one.

    Several ranks come in the order of time.

    Raises:
        ApiError, ConnectionFailed: it can't be read.
    """
    if has_ranks(run):
        from gpuyard.runs.tasks import with_tasks

        numbering = Numbering((await with_tasks(target, run)).sweep)
        async with aclosing(read_ranks(target, run.pods, options, ranks, numbering)) as of_ranks:
            async for of_rank in of_ranks:
                yield of_rank
        return
    gone = await gone_attempts(target, run.job, run.pods) if options.is_whole else []
    for said in _unreadable(gone):
        yield said
    pods = [pod for pod in run.pods if start_of(pod) is not None or is_cut_short(pod)]
    for number, pod in enumerate(pods, len(gone) + 1):
        if options.tail_lines is not None and pod is not pods[-1]:
            continue
        if start_of(pod) is not None:
            yield AttemptBegan(number, is_only=len(pods) + len(gone) == 1 or options.tail_lines is not None)
            async with aclosing(PodLog(target, pod, options).read()) as log:
                async for event in log:
                    yield event
        if is_cut_short(pod) and _is_made_again(run, pod):
            yield CutShort(await lost_attempt(target, pod))
