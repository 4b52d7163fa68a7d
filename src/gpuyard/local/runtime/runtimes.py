"""The runtimes of this host: one for each kind of container, and the adoption of what they started."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from gpuyard import errors
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.cgroups import Cgroups, find_cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.ending import conclude, rebooted
from gpuyard.local.runtime.exec_process import ContainerEntry
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.log_copier import KEEP_BYTES
from gpuyard.local.runtime.members import marked, patiently, send
from gpuyard.local.runtime.podman.host import PODMAN, Podman
from gpuyard.local.runtime.podman.runtime import PodmanRuntime
from gpuyard.local.runtime.process.runtime import ProcessRuntime
from gpuyard.local.runtime.process.sandbox import Isolation, find_isolation
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.local.runtime.runtime import Runtime
from gpuyard.local.runtime.spawn import Starts
from gpuyard.local.runtime.values import ContainerSpec, Exit

_POLL_S = 0.005


class Runtimes:
    """Chooses the runtime of each container: podman for one with an image, else processes of the host.

    A start has a folder: its journal, its log and its own /tmp. The folder is all that others need to adopt
    the container, whenever this process is killed. Methods belong to the running event loop.

    Attributes:
        process: for containers without an image.
        podman: for containers with one.
        cgroups: where limits of processes are set.
    """

    def __init__(
        self,
        isolation: Isolation,
        cgroups: Cgroups,
        clock: Callable[[], datetime],
        *,
        boot_id: str | None = None,
        podman: Podman | None = None,
        log_keep_bytes: int = KEEP_BYTES,
        yard: YardPaths | None = None,
    ) -> None:
        """Makes the runtimes; see `find_isolation` and `find_cgroups`.

        Args:
            isolation: how processes are kept apart.
            cgroups: where limits are set.
            clock: aware UTC now.
            boot_id: of the host; read from /proc when None.
            podman: for containers with an image; None refuses them.
            log_keep_bytes: how much of its end each log keeps.
            yard: whose folders sandboxes don't see.
        """
        self._boot_id = procfs.boot_id() if boot_id is None else boot_id
        self._clock = clock
        starts = Starts(clock, self._boot_id, log_keep_bytes)
        self.cgroups = cgroups
        self.process = ProcessRuntime(isolation, cgroups, starts, yard)
        self.podman = PodmanRuntime(podman or Podman(None, ""), starts)

    @classmethod
    async def open(
        cls,
        name: str,
        search_path: str,
        clock: Callable[[], datetime],
        *,
        podman: Podman | None = None,
        yard: YardPaths | None = None,
    ) -> Runtimes:
        """Tries once what this host permits.

        Args:
            name: tells this yard's cgroups from those of others on this host.
            search_path: where bwrap is looked for, as in PATH.
            clock: aware UTC now.
            podman: of this host; its probe is the caller's to run.
            yard: whose folders sandboxes don't see.
        """
        isolation = await find_isolation(search_path)
        cgroups = await asyncio.to_thread(find_cgroups, f"gpuyard-{name}")
        return cls(isolation, cgroups, clock, podman=podman, yard=yard)

    def choose(self, *, image: bool) -> Runtime:
        """The runtime of containers with an image, or without."""
        return self.podman if image else self.process

    async def start(self, folder: Path, spec: ContainerSpec) -> Container:
        """See `Runtime.start`."""
        return await self.choose(image=spec.image is not None).start(folder, spec)

    async def adopt(self, folder: Path) -> Container | Exit | None:
        """What became of a start: it runs (or has just ended), it ended, or nothing was ever started.

        In the last case the folder is removed and the container may be started again.

        Raises:
            ProcessError: the journal can't be read.
        """
        journal = await _decided(folder)
        if journal is None or (_is_undecided(journal) and journal.boot_id in ("", self._boot_id)):
            # The shell names itself before anything else, and the lock says that there is none.
            if journal is not None:
                await self._runtime_of(journal).discard(journal.name)
            await asyncio.to_thread(remove_tree, folder)
            return None
        if journal.exit is not None:
            return journal.exit
        if journal.boot_id != self._boot_id:
            return self._end_before_boot(folder, journal)
        return self._runtime_of(journal).attach(folder, journal)

    def _runtime_of(self, journal: Journal) -> Runtime:
        return self.choose(image=journal.isolation == PODMAN)

    async def enter(self, folder: Path, command: Sequence[str], *, tty: bool, mark: str) -> ContainerEntry:
        """See `Runtime.enter`. Waits for a start that is only just being made.

        Raises:
            BadRequest: nothing was started there, or it has ended.
        """
        journal = await _decided(folder)
        if journal is None or journal.started is None:
            raise errors.BadRequest("the container was never started")
        return await self._runtime_of(journal).enter(folder, command, tty=tty, mark=mark)

    def held(self, start: Journal, sockets: set[str]) -> set[str]:
        """Those of the sockets, see `procfs.held_sockets`, that a process of a start has open."""
        held = procfs.held_sockets(self._runtime_of(start).members(start).alive(), sockets)
        if held == sockets:
            return held
        # Commands that clients opened in a sandbox are no members.
        return held | procfs.held_sockets(marked(start.name), sockets - held)

    async def end_lost(self, name: str) -> None:
        """Ends what is left of the start of this name, of which no journal is left."""
        while left := await patiently(partial(marked, name)):
            send(left, signal.SIGKILL)
            await asyncio.sleep(_POLL_S)
        self.cgroups.remove(name)

    def _end_before_boot(self, folder: Path, journal: Journal) -> Exit:
        if journal.exit_code is None:
            exit_ = rebooted(journal)
        else:
            exit_ = conclude(
                journal, folder / journals.LOG, signalled=None, out_of_memory=False, now=self._clock()
            )
        journals.append_exit(folder / journals.JOURNAL, exit_)
        return exit_


async def _decided(folder: Path) -> Journal | None:
    """The journal of a start once it tells what became of it, or nobody is left who would write it there.

    Raises:
        ProcessError: it can't be read.
    """
    path = folder / journals.JOURNAL
    while True:
        journal = await patiently(partial(journals.read, path))
        # Without even the intent it is damaged, and whoever holds the lock won't mend it.
        if journal is None or not journal.boot_id or not _is_undecided(journal):
            return journal
        if not await patiently(partial(journals.is_locked, path)):
            # What was written last may have been written since.
            return await patiently(partial(journals.read, path))
        await asyncio.sleep(_POLL_S)


def _is_undecided(journal: Journal) -> bool:
    """Whether the intent is written and nothing tells that a process was started for it."""
    return journal.started is None and journal.exit is None
