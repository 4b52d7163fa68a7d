"""Printing the log of one pod, whole and once, however often streams break off and its container starts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any

from gpuyard import errors
from gpuyard.cli.log_output import LogOutput
from gpuyard.cli.output import StatusLine
from gpuyard.client.log_place import log_place
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
    """Prints a pod's log; keeps its place over several calls, as the container may be started anew."""

    def __init__(
        self, target: Target, pod: Manifest, output: LogOutput, *, tail_lines: int | None = None
    ) -> None:
        """`tail_lines`: begin with so many last lines."""
        self._target = target
        self._output = output
        self._name = pod["metadata"]["name"]
        self._uid = uid_of(pod)
        self._run = labels_of(pod).get(LABEL_RUN, self._name)
        self._restarts = pod["spec"].get("restartPolicy", "Never") != "Never"
        self._starts = max(start_of(pod) or 0, 0) + 1
        self._all = tail_lines is None
        self._failed_since: float | None = None
        headers = target.api.server_headers
        self._place = log_place(headers, tail_lines=tail_lines, restarts=self._restarts)

    async def print(self) -> None:
        """What there is.

        Raises:
            ApiError, ConnectionFailed: it can't be read.
        """
        if self._restarts and self._all:
            known = await self._print_previous()
            if (gone := self._starts - 1 - known) > 0:
                self._output.say(f"(the output of {gone} earlier start{'s' if gone > 1 else ''} is gone)")
        await self._stream()

    async def follow(self, start: int, line: StatusLine) -> None:
        """To the end of this start of the container; what is cut meanwhile is resumed where it broke off.

        Args:
            start: see `start_of`.
            line: takes what is to be said while nothing comes.

        Raises:
            ApiError, ConnectionFailed: it can't be read, and that doesn't pass.
        """
        loop = asyncio.get_running_loop()
        has_ended = start < 0
        if self._restarts and self._all:
            await self._print_previous()
        while True:
            try:
                await self._stream(line, follow=not has_ended)
                if has_ended:
                    return
                has_ended = await self._ends_soon(start)
                if has_ended and not self._place.ends_early:
                    return
            except _PASSING as error:
                if self._failed_since is None:
                    self._failed_since = loop.time()
                    continue
                failing_s = loop.time() - self._failed_since
                if isinstance(error, errors.ApiError) and failing_s > _STATUS_LAG_S:
                    with suppress(errors.GpuyardError):
                        if await self._has_ended(start):
                            self._output.say(f"(no more output of pod {self._name} can be had: {error})")
                            return
                if failing_s > AWAY_S:
                    raise
                if failing_s > _SAY_AFTER_S:
                    self._output.end_line()
                    line.show(self._failure_text(error))
                await asyncio.sleep(_RETRY_S)

    async def _print_previous(self) -> bool:
        """Prints what the start before the present one wrote, unless it has been printed.

        Returns:
            False when there was none, or its log is gone.
        """
        try:
            await self._stream(previous=True)
        except errors.BadRequest:
            return False
        return True

    async def _stream(self, line: StatusLine | None = None, **options: Any) -> None:
        """Prints one stream to its end."""
        place, query = self._place, self._place.query()
        stream = self._target.api.stream_log(
            self._target.namespace,
            self._name,
            tail_lines=query.tail_lines,
            timestamps=query.timestamps,
            since_time=query.since_time,
            on_begin=place.begin,
            **options,
        )
        # Closed at once where the reader of our output has left.
        async with aclosing(stream):
            async for piece in stream:
                self._failed_since = None
                new = place.fresh(piece)
                if line is not None and (new or place.lost):
                    line.clear()
                if place.lost:
                    self._output.say(place.lost)
                    place.lost = ""
                self._output.write(new)

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
