"""The log of one pod, whole and once, however often streams break off and its container starts."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from gpuyard import errors
from gpuyard.client.log_place import Gap, LogOptions, LogPlace, LogQuery, log_place
from gpuyard.kube.objects import PODS, Manifest, labels_of, uid_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.run import is_alive
from gpuyard.runs.target import Target

#: How long a follower waits for an API or a node that went away before it gives up.
AWAY_S = 60.0
_RETRY_S = 0.2
#: A cut that is mended by then isn't worth a word.
_SAY_AFTER_S = 1.0
#: The log ends with the container, and the pod's status says so a moment later.
_STATUS_LAG_S = 3.0
_STATUS_POLL_S = 0.03
#: What may pass: the API or the kubelet is away or busy, or doesn't know the pod (yet, again).
_PASSING = (
    *(errors.ConnectionFailed, errors.ServiceUnavailable, errors.InternalError, errors.Timeout),
    *(errors.TooManyRequests, errors.NotFound, errors.BadRequest),
)


@dataclass(frozen=True)
class Output:
    """What the processes wrote, unchanged; a piece ends anywhere, also in the middle of a letter."""

    data: bytes


@dataclass(frozen=True)
class Away:
    """Nothing can be read for now, and it is tried again; the text says who doesn't answer."""

    text: str


@dataclass(frozen=True)
class Back:
    """The API answers again."""


LogEvent = Output | Gap | Away | Back


def start_of(pod: Manifest) -> int | None:
    """Which start of its container the pod's output is of, counted from 0; -1 of an earlier one, while
    it waits for the next; None before the first."""
    for status in container_statuses(pod):
        state = status.get("state") or {}
        if "running" in state or "terminated" in state:
            return int(status.get("restartCount") or 0)
        if status.get("lastState"):
            return -1
    return None


class PodLog:
    """Reads a pod's log; keeps its place over several calls, as the container may be started anew.

    Attributes:
        past_is_read: whether `past` came to its end.
    """

    def __init__(self, target: Target, pod: Manifest, options: LogOptions) -> None:
        """`options` say which part."""
        self._target = target
        self._name = pod["metadata"]["name"]
        self._uid = uid_of(pod)
        self._run = labels_of(pod).get(LABEL_RUN, self._name)
        self._restarts = pod["spec"].get("restartPolicy", "Never") != "Never"
        self._starts = max(start_of(pod) or 0, 0) + 1
        self._all = options.is_whole
        self._failed_since: float | None = None
        self._is_away = False
        self._options = options
        self._headers = target.api.server_headers
        self.past_is_read = False
        self._place = self._place_of(options)

    def _place_of(self, options: LogOptions) -> LogPlace:
        return log_place(self._headers, options, restarts=self._restarts)

    async def read(self) -> AsyncGenerator[LogEvent, None]:
        """What there is.

        Raises:
            ApiError, ConnectionFailed: it can't be read.
        """
        if self._restarts and self._all:
            known = False
            with suppress(errors.BadRequest):  # there was none before the present one, or its log is gone
                async for event in self._stream(previous=True):
                    yield event
                known = True
            if (gone := self._starts - 1 - known) > 0:
                yield Gap(f"(the output of {gone} earlier start{'s' if gone > 1 else ''} is gone)")
        async for event in self._stream():
            yield event

    async def past(self) -> AsyncGenerator[LogEvent, None]:
        """What there is, each line with its time; `follow` goes on behind it, and where that was cut.

        Raises:
            ApiError: it can't be read, and that doesn't pass.
        """
        # Behind it everything is new, however few lines were asked for.
        behind = self._place_of(dataclasses.replace(self._options, tail_lines=None))
        dated = self._place_of(dataclasses.replace(self._options, timestamps=True))
        before, self._place = self._place, _Both(dated, behind)
        try:
            async with aclosing(self.read()) as log:
                async for event in log:
                    before = behind
                    yield event
            before, self.past_is_read = behind, True
        except _PASSING:
            pass
        self._place = before

    async def follow(self, start: int) -> AsyncGenerator[LogEvent, None]:
        """To the end of this start of the container; what is cut meanwhile is resumed where it broke off.

        Args:
            start: see `start_of`.

        Raises:
            ApiError, ConnectionFailed: it can't be read, and that doesn't pass.
        """
        has_ended = start < 0
        if self._restarts and self._all:
            with suppress(errors.BadRequest):  # see `read`
                async for event in self._stream(previous=True):
                    yield event
        while True:
            try:
                async for event in self._stream(follow=not has_ended):
                    yield event
                if has_ended:
                    return
                has_ended = await self._ends_soon(start)
                if has_ended and not self._place.ends_early:
                    return
            except _PASSING as error:
                said = await self._failed(error, start)
                if said is not None:
                    yield said
                if isinstance(said, Gap):
                    return

    async def _failed(self, error: errors.GpuyardError, start: int) -> LogEvent | None:
        """What to say after a failure that may pass; a gap when no more of the log can be had.

        Raises:
            GpuyardError: the failure, once it has lasted too long.
        """
        loop = asyncio.get_running_loop()
        if self._failed_since is None:
            self._failed_since = loop.time()
            return None
        failing_s = loop.time() - self._failed_since
        if isinstance(error, errors.ApiError) and failing_s > _STATUS_LAG_S:
            with suppress(errors.GpuyardError):
                if await self._has_ended(start):
                    return Gap(f"(no more output of pod {self._name} can be had: {error})")
        if failing_s > AWAY_S:
            raise error
        await asyncio.sleep(_RETRY_S)
        if failing_s <= _SAY_AFTER_S:
            return None
        self._is_away = True
        return Away(self._failure_text(error))

    async def _stream(self, **options: Any) -> AsyncGenerator[LogEvent, None]:
        """One stream to its end."""
        place, query = self._place, self._place.query()
        stream = self._target.api.stream_log(
            self._target.namespace,
            self._name,
            tail_lines=query.tail_lines,
            timestamps=query.timestamps,
            since_time=query.since_time,
            since_s=query.since_s,
            accept=query.accept,
            on_begin=place.begin,
            **options,
        )
        # Closed at once where the reader of our output has left.
        async with aclosing(stream):
            async for piece in stream:
                self._failed_since = None
                if self._is_away:
                    self._is_away = False
                    yield Back()
                for new in place.fresh(piece) if piece else ():
                    yield new if isinstance(new, Gap) else Output(new)

    async def _has_ended(self, start: int) -> bool:
        try:
            pod = await self._target.api.get(PODS, self._name, self._target.namespace)
        except errors.NotFound:
            return True
        return uid_of(pod) != self._uid or not is_alive(pod) or not _is_running(pod, start)

    async def _ends_soon(self, start: int) -> bool:
        """Whether the stream ended because its container did; else it was cut, or nothing came for long."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _STATUS_LAG_S
        while not await self._has_ended(start):
            if loop.time() > due:
                return False
            await asyncio.sleep(_STATUS_POLL_S)
        return True

    def _failure_text(self, error: errors.GpuyardError) -> str:
        if isinstance(error, errors.ConnectionFailed | errors.ServiceUnavailable):
            return away_text(self._target, self._run)
        return f"the output of pod {self._name} can't be read, trying again …: {error}"


class _Both:
    """Implements `LogPlace` for two readers of the same streams, of whom the first is shown what comes."""

    def __init__(self, shown: LogPlace, other: LogPlace) -> None:
        self.ends_early = shown.ends_early
        self._shown = shown
        self._other = other

    def query(self) -> LogQuery:
        """See `LogPlace`."""
        return self._shown.query()

    def begin(self, headers: Mapping[str, str]) -> None:
        """See `LogPlace`."""
        self._shown.begin(headers)
        self._other.begin(headers)

    def fresh(self, piece: bytes) -> list[bytes | Gap]:
        """See `LogPlace`."""
        self._other.fresh(piece)
        return self._shown.fresh(piece)


def away_text(target: Target, name: str) -> str:
    """What a follower says while nobody answers; the run's processes don't depend on the API."""
    who = "the yard is away" if target.is_yard else "the cluster doesn't answer"
    return f"{who}; {name} goes on, waiting …"


def _is_running(pod: Manifest, start: int) -> bool:
    """Whether the container runs, as far as the API knows, and hasn't been started again."""
    for status in container_statuses(pod):
        if "running" in (status.get("state") or {}):
            return int(status.get("restartCount") or 0) <= start
    return False
