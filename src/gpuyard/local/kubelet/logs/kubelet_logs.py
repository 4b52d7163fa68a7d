"""Container logs for the API: the files of `runtime`, read without anything of the daemon's state.

The file of one start only ever grows, and what is too old is punched out of its front (see
`runtime.log_copier`): offsets stay what they were.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from gpuyard import errors
from gpuyard.client.log_place import dated, frame
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.kube.pods import container_statuses
from gpuyard.local.kubelet.logs.log_file import next_data, start_of_line, start_of_tail
from gpuyard.local.kubelet.logs.log_times import LogTimes
from gpuyard.local.kubelet.pod_folders import PodFolder
from gpuyard.local.objects.pod_logs import Log, PodLogOptions
from gpuyard.local.runtime import journal as journals
from gpuyard.regular_files import open_regular

_PIECE = 64 * 1024
_POLL_S = 0.02
_POLL_MAX_S = 0.2
#: How exact the times of lines are.
_LOOK_S = 0.2
_US_PER_S = 1_000_000


class KubeletLogs:
    """Implements `local.objects.pod_logs.PodLogs` over the pods' folders."""

    def __init__(self, pods_dir: Path, clock: Callable[[], datetime]) -> None:
        self._pods_dir = pods_dir
        self._clock = clock
        #: Folders of starts that have ended, where the journal couldn't be told.
        self._ended: set[Path] = set()
        #: Of those that are written to, by their folders.
        self._times: dict[Path, LogTimes] = {}
        self._has_some = asyncio.Event()

    async def run(self) -> None:
        """Dates what is printed, until cancelled."""
        while await self._has_some.wait():
            for times in list(self._times.values()):
                times.look()
            await asyncio.sleep(_LOOK_S)

    @contextmanager
    def dating(self, folder: Path) -> Iterator[None]:
        """Dates what the start in this folder prints meanwhile."""
        times = self._times[folder] = LogTimes(folder)
        self._has_some.set()
        try:
            yield
        finally:
            times.look()
            self._times.pop(folder, None)
            if not self._times:
                self._has_some.clear()

    def end(self, folder: Path) -> None:
        """Notes that the start in this folder is over: its journal may lack that, after a full disk."""
        with suppress(errors.ProcessError):
            if _has_ended(folder):
                return
        self._ended.add(folder)

    async def open_log(self, pod: Manifest, container: str, options: PodLogOptions) -> Log:
        """See `PodLogs.open_log`. A followed log ends with the start that it belongs to."""
        folder = self._choose(pod, container, options.previous)
        times = await self._times_of(folder, options)
        descriptor: int | None
        try:
            descriptor = open_regular(folder / journals.LOG)
        except FileNotFoundError:
            descriptor = None  # it couldn't be started
        except OSError as error:
            raise errors.InternalError(f"can't read the log in {folder}: {error.strerror}") from error
        try:
            position = 0 if descriptor is None else self._start(descriptor, options, times)
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            raise
        pieces = self._read(folder, descriptor, options, position, times)
        # Begins it: from now on the descriptor is closed with it, also where nobody reads on.
        await anext(pieces)
        return Log(pieces, position, int(folder.name))

    async def _times_of(self, folder: Path, options: PodLogOptions) -> LogTimes | None:
        if not options.timestamps and options.since_s is None and options.since is None:
            return None
        times = self._times.get(folder)
        if times is None:
            times = await asyncio.to_thread(LogTimes, folder)
        times.look()
        return times

    def _choose(self, pod: Manifest, container: str, previous: bool) -> Path:
        folder = PodFolder(self._pods_dir / uid_of(pod))
        attempts = folder.attempts(container)
        if not attempts:
            raise errors.BadRequest(_no_start(pod, container))
        if not previous:
            return folder.attempt(container, attempts[-1])
        if len(attempts) < 2:
            name = pod["metadata"]["name"]
            raise errors.BadRequest(f'previous terminated container "{container}" in pod "{name}" not found')
        return folder.attempt(container, attempts[-2])

    async def _read(
        self,
        folder: Path,
        descriptor: int | None,
        options: PodLogOptions,
        position: int,
        times: LogTimes | None,
    ) -> AsyncGenerator[bytes, None]:
        if descriptor is None:
            yield b""
            return
        try:
            yield b""
            left, is_open = options.limit_bytes, False
            dates = times if options.timestamps else None
            pause_s = _POLL_S
            while True:
                # First whether it has ended, then the rest: nothing that came between is missed.
                over = not options.follow or folder in self._ended or _has_ended(folder)
                if dates:
                    dates.look()
                while piece := _read_piece(descriptor, position, left, dates):
                    before, (text, position) = position, piece
                    left = None if left is None else left - len(text)
                    pause_s = _POLL_S
                    time_us = dates.time_us(position - len(text)) if dates else 0
                    if options.in_frames:
                        yield frame(position - len(text), text, time_us)
                    else:
                        # The rest of a line that was punched out mustn't become part of another.
                        is_cut = is_open and position - len(text) > before
                        shown = dated(text, time_us, is_open=is_open and not is_cut) if dates else text
                        yield b"\n" + shown if is_cut else shown
                    is_open = not text.endswith(b"\n")
                if over or left == 0:
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _POLL_S if options.promptly else _POLL_MAX_S)
        finally:
            os.close(descriptor)

    def _start(self, descriptor: int, options: PodLogOptions, times: LogTimes | None) -> int:
        position = next_data(descriptor, 0)
        since = options.since
        if options.since_s is not None:
            since = self._clock() - timedelta(seconds=options.since_s)
        if since is not None and times is not None:
            first = times.first_since(math.floor(since.timestamp() * _US_PER_S))
            if first > position:  # what lies before is a hole, which may be long
                line = start_of_line(descriptor, first)
                position = os.fstat(descriptor).st_size if line is None else line
        if options.tail_lines is not None:
            position = max(position, start_of_tail(descriptor, options.tail_lines))
        return position


def _read_piece(
    descriptor: int, position: int, left: int | None, times: LogTimes | None
) -> tuple[bytes, int] | None:
    """What is there from `position` on and where it ends, all of one time; None when nothing is."""
    while True:
        position = next_data(descriptor, position)
        most = _PIECE if left is None else min(left, _PIECE)
        if times is not None:
            most = min(most, times.end(position) - position)
        piece = os.pread(descriptor, most, position)
        if not piece:
            return None
        # It may have been punched out as we read it.
        if next_data(descriptor, position) == position:
            return piece, position + len(piece)


def _has_ended(folder: Path) -> bool:
    """Whether nobody writes to the log any more; a log that is being removed has ended too."""
    journal = journals.read(folder / journals.JOURNAL)
    return journal is None or journal.exit is not None


def _no_start(pod: Manifest, container: str) -> str:
    """Why there is no log, as the pod's status has it."""
    status = pod.get("status") or {}
    named = f'container "{container}" in pod "{pod["metadata"]["name"]}"'
    for one in container_statuses(pod, init=True):
        state = one.get("state") or {}
        if one["name"] == container and "terminated" in state:
            return f"{named} couldn't be started: {state['terminated'].get('message', '')}"
        if one["name"] == container and state.get("waiting", {}).get("reason"):
            return f"{named} is waiting to start: {state['waiting']['reason']}"
    if status.get("phase") == "Failed":
        return f"{named} never started: {status.get('message') or status.get('reason') or 'the pod failed'}"
    return f"{named} is waiting to start: ContainerCreating"
