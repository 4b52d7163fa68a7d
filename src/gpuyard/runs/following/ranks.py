"""The output of a run of several pods: each rank's log whole and in its order."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gpuyard import errors
from gpuyard.client.log_place import LogOptions
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.kube.timestamps import parse_time
from gpuyard.runs.following.pod_log import LogEvent, PodLog, start_of
from gpuyard.runs.run import is_alive, rank_of
from gpuyard.runs.target import Target

if TYPE_CHECKING:
    from gpuyard.workloads.sweeps.values import Sweep

#: Pieces of output that wait to be printed; then the readers wait, and their pods' logs stay where they are.
_MAX_PIECES = 256


@dataclass(frozen=True)
class OfRank:
    """Something about the log of one rank; None when a start of it is over.

    Attributes:
        attempt: which one of this rank's, counted from 1.
        values: of a sweep's task, as text.
        replica: of a service's replica, what its name ends with.
    """

    rank: int
    event: LogEvent | None
    attempt: int = 1
    values: str = ""
    replica: str = ""

    @property
    def label(self) -> str:
        """What its lines are told from others' by: `1`, of a sweep `1 lr=0.1`, of a service `x7k2q`."""
        return self.replica or f"{self.rank} {self.values}".rstrip()


class Numbering:
    """Which number each pod's lines go by: the rank of a run's pod, and the values of a sweep's task."""

    def __init__(self, sweep: Sweep | None = None) -> None:
        self._sweep = sweep

    def number(self, pod: Manifest) -> int:
        """The pod's."""
        return rank_of(pod)

    def head(self, pod: Manifest, attempt: int) -> OfRank:
        """What the pod's lines come with."""
        rank = rank_of(pod)
        return OfRank(rank, None, attempt, _values(self._sweep, rank))


class ReplicaNumbering(Numbering):
    """Replicas have no numbers of their own: they get them in the order in which they are seen."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers: dict[str, int] = {}

    def number(self, pod: Manifest) -> int:
        """See `Numbering`."""
        return self._numbers.setdefault(uid_of(pod), len(self._numbers))

    def head(self, pod: Manifest, attempt: int) -> OfRank:
        """See `Numbering`."""
        return OfRank(self.number(pod), None, attempt, replica=pod["metadata"]["name"].rpartition("-")[2])


@dataclass(eq=False)
class _Start:
    """A start of a container whose output is to be read.

    Attributes:
        number: see `start_of`.
        head: whose it is.
        has_ended: whether its pod had, when it was found.
    """

    log: PodLog
    number: int
    head: OfRank
    began_ns: int
    has_ended: bool


class RankLogs:
    """Reads the logs of all ranks at the same time; an asynchronous context, which ends the readers.

    What is there already comes first, in the order of time, and then what each of them says, as it comes.

    Args:
        target: where the run is.
        options: which part of each log.
        ranks: those that are wanted; empty for all.
        numbering: by which pods are told apart.
    """

    def __init__(
        self, target: Target, options: LogOptions, ranks: Collection[int], numbering: Numbering
    ) -> None:
        self._target = target
        self._options = options
        self._ranks = frozenset(ranks)
        self._numbering = numbering
        self._seen: set[tuple[str, int]] = set()
        self._due: dict[int, deque[_Start]] = {}
        self._past: asyncio.Task[None] | None = None
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._logs: dict[str, PodLog] = {}
        self._attempts: dict[int, list[str]] = {}
        self._pieces: asyncio.Queue[OfRank | errors.GpuyardError] = asyncio.Queue(_MAX_PIECES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks = [*self._readers.values(), *([self._past] if self._past else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_idle(self) -> bool:
        """Whether everything that the pods have printed so far has been given out."""
        return self._pieces.empty() and all(reader.done() for reader in self._readers.values())

    def update(self, pods: Sequence[Manifest]) -> None:
        """Begins to read what is new."""
        for pod in pods:
            rank, start, uid = self._numbering.number(pod), start_of(pod), uid_of(pod)
            if start is None or (uid, start) in self._seen or (self._ranks and rank not in self._ranks):
                continue
            if start < 0 and uid in self._logs:
                continue  # while it waits to be started again there is nothing new
            self._seen.add((uid, start))
            found = _Start(self._log_of(pod), start, self._head(pod), _began_ns(pod), not is_alive(pod))
            self._due.setdefault(rank, deque()).append(found)
        if self._past is None:
            self._past = asyncio.create_task(self._read_past(), name="output that is there")
        for rank, due in self._due.items():
            if due and (rank not in self._readers or self._readers[rank].done()):
                self._readers[rank] = asyncio.create_task(
                    self._read(rank, self._past), name=f"log of rank {rank}"
                )

    async def next(self) -> OfRank:
        """The next piece.

        Raises:
            GpuyardError: a log can't be read, and that doesn't pass.
        """
        return _raised(await self._pieces.get())

    def ready(self) -> Iterator[OfRank]:
        """The pieces that are there now; raises as `next`."""
        while not self._pieces.empty():
            yield _raised(self._pieces.get_nowait())

    def _log_of(self, pod: Manifest) -> PodLog:
        uid = uid_of(pod)
        if uid not in self._logs:
            self._logs[uid] = PodLog(self._target, pod, self._options)
            self._attempts.setdefault(self._numbering.number(pod), []).append(uid)
        return self._logs[uid]

    def _head(self, pod: Manifest) -> OfRank:
        attempts = self._attempts[self._numbering.number(pod)]
        return self._numbering.head(pod, attempts.index(uid_of(pod)) + 1)

    async def _read_past(self) -> None:
        """What there is of several logs; their readers go on behind it."""
        starts = [start for rank in sorted(self._due) for start in self._due[rank]]
        if len(starts) < 2 or self._options.tail_lines == 0:
            return
        from gpuyard.runs.following.merged_logs import DatedLog, in_order

        logs = [DatedLog(start.log.past(), start.began_ns) for start in starts]
        try:
            async with aclosing(in_order(logs, keep_times=self._options.timestamps)) as events:
                async for place, event in events:
                    start = starts[place]
                    if event is None:
                        if not (start.has_ended and start.log.past_is_read):
                            continue  # its reader will say so
                        self._due[start.head.rank].remove(start)
                    await self._pieces.put(dataclasses.replace(start.head, event=event))
        except errors.GpuyardError as error:
            await self._pieces.put(error)

    async def _read(self, rank: int, past: asyncio.Task[None]) -> None:
        await asyncio.wait([past])
        try:
            while due := self._due[rank]:
                start = due.popleft()
                async with aclosing(start.log.follow(start.number)) as log:
                    async for event in log:
                        await self._pieces.put(dataclasses.replace(start.head, event=event))
                await self._pieces.put(start.head)
        except errors.GpuyardError as error:
            await self._pieces.put(error)


async def read_ranks(
    target: Target,
    pods: Sequence[Manifest],
    options: LogOptions,
    ranks: Collection[int],
    numbering: Numbering,
) -> AsyncGenerator[OfRank, None]:
    """What the pods have printed so far, in the order of time; arguments as of `RankLogs`.

    Raises:
        ApiError, ConnectionFailed: it can't be read.
    """
    from gpuyard.runs.following.merged_logs import DatedLog, in_order

    number = numbering.number
    pods = [pod for pod in pods if start_of(pod) is not None and (not ranks or number(pod) in ranks)]
    pods.sort(key=number)  # stable: attempts stay in their order
    attempts: dict[int, int] = {}
    heads: list[OfRank] = []
    for pod in pods:
        attempts[number(pod)] = attempts.get(number(pod), 0) + 1
        heads.append(numbering.head(pod, attempts[number(pod)]))
    dated = dataclasses.replace(options, timestamps=True)
    logs = [DatedLog(PodLog(target, pod, dated).read(), _began_ns(pod)) for pod in pods]
    async with aclosing(in_order(logs, keep_times=options.timestamps)) as events:
        async for place, event in events:
            yield dataclasses.replace(heads[place], event=event)


def _began_ns(pod: Manifest) -> int:
    """When its node took it on; 0 where nobody says."""
    began = (pod.get("status") or {}).get("startTime")
    return int(parse_time(began).timestamp()) * 1_000_000_000 if began else 0


def _values(sweep: Sweep | None, rank: int) -> str:
    if sweep is None or rank >= sweep.size:
        return ""
    from gpuyard.workloads.sweeps.sweep import values_text

    return values_text(sweep.task(rank))


def _raised(piece: OfRank | errors.GpuyardError) -> OfRank:
    if isinstance(piece, errors.GpuyardError):
        raise piece
    return piece
