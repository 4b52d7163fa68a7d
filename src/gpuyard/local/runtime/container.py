"""One started container: waiting for its end, signals, and the end of whatever it leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.ending import conclude
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.log_copier import wait_until_copied
from gpuyard.local.runtime.members import Members, patiently, send
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.local.runtime.values import Exit
from gpuyard.workloads.memory_kills import OomCause

log = logging.getLogger(__name__)

_POLL_S = 0.002
_POLL_MAX_S = 0.05
#: How long the reader of a pipe may work on what is left in it.
_DRAIN_S = 5.0
#: A sandbox that hasn't named its first process by then never will.
_SETUP_S = 2.0


class Container:
    """Owns a pidfd of the started process: bubblewrap, the shell that stays beside the command, or conmon.

    One task awaits `wait`; any other may call `stop`. Cancelling either leaves the processes alone; `close`
    lets go of them, so that another Runtime can adopt them.

    Attributes:
        folder: of this start.
        name: of this start, unique on this host.
        started_at: when it was started, also after an adoption.
        oom_kills: how many of its processes the kernel has killed for lack of memory, when last looked for.
        oom_cause: where memory was short then.
    """

    def __init__(
        self,
        folder: Path,
        begun: Journal,
        pid: int,
        pidfd: int | None,
        cgroups: Cgroups,
        clock: Callable[[], datetime],
        members: Callable[[Journal], Members],
    ) -> None:
        """Makes the handle; see `Runtime.start` and `Runtimes.adopt`.

        Args:
            folder: of this start.
            begun: its journal as it begins.
            pid: of the started process.
            pidfd: of the same, None when it has ended already. It is the handle's to close.
            cgroups: where its limits are.
            clock: aware UTC now.
            members: a look at its processes, as far as the journal tells yet.
        """
        self.folder = folder
        self.name, self.started_at = begun.name, begun.started_at
        self.oom_kills = 0
        self.oom_cause: OomCause | None = None
        self._pid = pid
        self._pidfd = pidfd
        self._cgroups = cgroups
        self._clock = clock
        self._members = members
        self._ended = asyncio.Event()
        self._signal: signal.Signals | None = None
        self._kill_at: float | None = None
        if pidfd is None:
            self._ended.set()
        else:
            asyncio.get_running_loop().add_reader(pidfd, self._on_end)

    @property
    def log_path(self) -> Path:
        """Output and errors of the command, as it wrote them."""
        return self.folder / journals.LOG

    @property
    def counts_oom_kills(self) -> bool:
        """Whether it has a cgroup of ours, which counts them."""
        return self._cgroups.memory is not None

    def look_for_oom_kills(self) -> None:
        """Counts what the kernel has killed of it for lack of memory.

        Raises:
            OSError: this process has no descriptor or memory left to look.
        """
        # Once its groups are removed the last count stands.
        if (count := self._cgroups.oom_kills(self.name)) > self.oom_kills:
            self.oom_cause = self._cgroups.oom_cause(self.name)
            self.oom_kills = count

    def close(self) -> None:
        """Stops watching. The processes go on."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _on_end(self) -> None:
        assert self._pidfd is not None
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._ended.set()

    async def wait(self) -> Exit:
        """Waits until the command has ended, ends what it left behind, and says how it ended.

        Processes left behind are killed at once or, when the container is being stopped, are told and get
        the rest of the grace. Nothing of the container is alive when this returns.
        """
        await self._ended.wait()
        journal = await patiently(self._journal)
        await self._end_leftovers(self._members(journal))
        await self._end_guests()
        # Only now: a zombie keeps its pid, which is also the session's number, from being another's.
        self._reap()
        self.close()
        if not await wait_until_copied(self.log_path):
            log.warning("%s: a process that left the container holds its output open", self.name)
        await patiently(self.look_for_oom_kills)
        exit_ = await self._conclude(journal)
        await asyncio.to_thread(self._finish, exit_)
        return exit_

    async def _conclude(self, journal: Journal) -> Exit:
        return conclude(
            journal,
            self.log_path,
            signalled=self._signal,
            out_of_memory=self.oom_kills > 0,
            now=self._clock(),
        )

    def _reap(self) -> None:
        with suppress(ChildProcessError):  # adopted
            os.waitpid(self._pid, os.WNOHANG)

    def _finish(self, exit_: Exit) -> None:
        try:
            journals.append_exit(self.folder / journals.JOURNAL, exit_)
        except errors.ProcessError as error:
            # The exit code is in the journal already: a later look comes to the same end.
            log.warning("%s", error)
        self._cgroups.remove(self.name)
        remove_tree(self.folder / journals.TMP)
        for name in (journals.ENTRY, journals.STDIN):
            (self.folder / name).unlink(missing_ok=True)

    async def stop(self, grace_s: float, by: signal.Signals = signal.SIGTERM) -> None:
        """The signal `by` to the command; SIGKILL to all of the container when it hasn't ended in time.

        As in Kubernetes only the command itself gets the signal: its workers are its own to stop. A further
        call can only shorten the grace. Returns when the command has ended; `wait` tells when all has.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        self._kill_at = deadline if self._kill_at is None else min(deadline, self._kill_at)
        if grace_s > 0 and self._signal is None:
            await self._terminate(by)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), max(0.0, self._kill_at - loop.time()))
        if not self._ended.is_set():
            await self._kill()

    async def _terminate(self, by: signal.Signals) -> None:
        """Sends the signal once the command is there: a container may be stopped while it is being set up."""
        pause_s = _POLL_S
        while not self._ended.is_set() and not self._is_overdue():
            command = await patiently(lambda: self._members(self._journal()).command())
            if command is not None:
                self._signal = by
                await self._send(command, by)
                return
            await self._pause(pause_s)
            pause_s = min(pause_s * 2, _POLL_MAX_S)

    async def _send(self, command: int, by: signal.Signals) -> None:
        """The signal to the command, which is alive."""
        send([command], by)

    async def _kill(self) -> None:
        self._signal = signal.SIGKILL
        give_up_at = asyncio.get_running_loop().time() + _SETUP_S
        pause_s = _POLL_S
        while not self._ended.is_set():
            await patiently(lambda: self._members(self._journal()).kill())
            if asyncio.get_running_loop().time() > give_up_at:
                send([self._pid], signal.SIGKILL)
            await self._pause(pause_s)
            pause_s = min(pause_s * 2, _POLL_MAX_S)

    async def _end_leftovers(self, members: Members) -> None:
        due: dict[int, float] = {}
        pause_s = _POLL_S
        while left := await patiently(members.alive):
            if self._kill_at is None or self._is_overdue():
                await patiently(members.kill)
            else:
                await patiently(partial(self._tell, left, due))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _POLL_MAX_S)

    async def _end_guests(self) -> None:
        """Kills what keeps its groups from being removed: who brought a command into a sandbox."""
        while left := await patiently(partial(self._cgroups.pids, self.name)):
            send(left, signal.SIGKILL)
            await asyncio.sleep(_POLL_S)

    def _tell(self, left: set[int], due: dict[int, float]) -> None:
        """Signals each of these that has no parent of its own, at the time that `due` keeps for it.

        What has one is that one's to stop: a training saves with the help of its workers. In
        `python train.py | tee log` tee isn't told: it ends with its last writer, and what that prints while
        it saves is to be read. A program gets the signal of the stop if it handles it.
        """
        by, now = self._signal or signal.SIGTERM, time.monotonic()
        due |= dict.fromkeys(procfs.pipe_readers(left), now + _DRAIN_S)
        for pid in procfs.topmost(left):
            if due.get(pid, now) <= now:
                send([pid], by if procfs.handles(pid, by) else signal.SIGTERM)
                due[pid] = float("inf")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    def _is_overdue(self) -> bool:
        return self._kill_at is not None and asyncio.get_running_loop().time() >= self._kill_at

    def _journal(self) -> Journal:
        return journals.read(self.folder / journals.JOURNAL) or Journal()
