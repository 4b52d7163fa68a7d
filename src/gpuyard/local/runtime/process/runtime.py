"""Containers as processes of this process's own user, in sessions of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpuyard import errors
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.exec_process import ContainerEntry
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.members import Members, Namespace, patiently
from gpuyard.local.runtime.process.entering import entry_of, keep_entry
from gpuyard.local.runtime.process.programs import check_working_dir, find_program
from gpuyard.local.runtime.process.sandbox import BUBBLEWRAP, Isolation, bubblewrap_args, check_word_count
from gpuyard.local.runtime.process.session import Session
from gpuyard.local.runtime.process.shell import JOURNAL_FD, in_session, shell_argv
from gpuyard.local.runtime.runtime import Applied
from gpuyard.local.runtime.spawn import Descriptors, Starts, check_text, pidfd_of, popen
from gpuyard.local.runtime.values import ENV_CONTAINER, TERMINAL, ContainerSpec

_SETUP_POLL_S = 0.005
#: Bubblewrap always sets no_new_privs.
_SECURITY = {BUBBLEWRAP: frozenset(("allowPrivilegeEscalation",))}


class ProcessRuntime:
    """Implements `Runtime`. Each container is in a sandbox of bubblewrap where the host allows that."""

    def __init__(
        self, isolation: Isolation, cgroups: Cgroups, starts: Starts, yard: YardPaths | None = None
    ) -> None:
        """Makes it; see `find_isolation` and `find_cgroups`. Sandboxes don't see the folders of `yard`."""
        self.isolation = isolation
        self.cgroups = cgroups
        self._starts = starts
        self._yard = yard

    @property
    def applied(self) -> Applied:
        """See `Runtime.applied`."""
        level = self.isolation.level
        security = _SECURITY.get(level, frozenset())
        return Applied(level, mounts=level == BUBBLEWRAP, container_security=security)

    async def start(self, folder: Path, spec: ContainerSpec) -> Container:
        """See `Runtime.start`."""
        begun = Journal(name=spec.name, started_at=self._starts.clock())
        opened = await self._starts.open(folder, spec, self.isolation.level, begun.started_at)
        try:
            pid = self._starts.launch(folder, opened, lambda: self._spawn(folder, spec, opened))
        except errors.StartError:
            self.cgroups.remove(spec.name)
            raise
        return self._container(folder, begun, pid, await patiently(partial(os.pidfd_open, pid)))

    def attach(self, folder: Path, journal: Journal) -> Container:
        """See `Runtime.attach`."""
        assert journal.started is not None
        return self._container(folder, journal, journal.started.pid, pidfd_of(journal.started))

    def members(self, journal: Journal) -> Members:
        """See `Runtime.members`."""
        # The container may have been started by an earlier daemon, with another isolation than this one's.
        return Namespace(journal) if journal.isolation == BUBBLEWRAP else Session(journal, self.cgroups)

    async def enter(self, folder: Path, command: Sequence[str], *, tty: bool, mark: str) -> ContainerEntry:
        """See `Runtime.enter`. Waits until the container is set up: its command is the last of that."""
        path = folder / journals.JOURNAL
        while True:
            journal = await patiently(partial(journals.read, path))
            if journal is None or journal.exit is not None or journal.exit_code is not None:
                raise errors.BadRequest("the container has just ended")
            if await patiently(self.members(journal).command) is not None:
                break
            if not await patiently(partial(journals.is_locked, path)):
                raise errors.BadRequest("the container has just ended")
            await asyncio.sleep(_SETUP_POLL_S)
        init = journal.init_pid if journal.isolation == BUBBLEWRAP else None
        cgroups = self.cgroups.folders(journal.name)
        return entry_of(folder, command, cgroups=cgroups, init=init, tty=tty, mark=mark)

    async def discard(self, name: str) -> None:
        """See `Runtime.discard`: a process that never got going leaves nothing."""

    def _container(self, folder: Path, begun: Journal, pid: int, pidfd: int | None) -> Container:
        return Container(folder, begun, pid, pidfd, self.cgroups, self._starts.clock, self.members)

    def _spawn(self, folder: Path, spec: ContainerSpec, opened: Descriptors) -> int:
        isolated = self.isolation.level == BUBBLEWRAP
        check_text(spec, by_shell=not isolated)
        working_dir = check_working_dir(spec.working_dir)
        program = find_program(spec.argv[0], spec.env, working_dir)
        command = [program, *spec.argv[1:]]
        env = {**(TERMINAL if spec.tty else {}), **spec.env, ENV_CONTAINER: spec.name}
        keep_entry(folder, env, spec.working_dir)
        try:
            groups = self.cgroups.create(spec.name, spec.limits)
        except OSError as error:
            raise errors.StartError(
                f"the kernel refuses the limits of CPU and memory: {error.strerror}"
            ) from error
        if not isolated:
            return popen(shell_argv(groups, command, stay=True, tty=spec.tty), env, opened, working_dir)
        tmp = folder / journals.TMP
        tmp.mkdir(mode=0o700)
        tmp.chmod(0o1777)
        if spec.tty:
            command = in_session(command)
        setup = bubblewrap_args(replace(spec, env=env), tmp, self._yard)
        check_word_count(setup, command)
        args = os.memfd_create("bwrap-args", os.MFD_CLOEXEC)
        try:
            # Through a file: an environment has secrets, and arguments are public.
            with os.fdopen(os.dup(args), "wb") as file:
                for arg in setup:
                    file.write(os.fsencode(arg) + b"\0")
            os.lseek(args, 0, os.SEEK_SET)
            bwrap = [self.isolation.program, "--args", str(args), "--json-status-fd", str(JOURNAL_FD), "--"]
            argv = shell_argv(groups, [*bwrap, *command], stay=False, tty=spec.tty)
            return popen(argv, {}, opened, Path("/"), keep=args)
        finally:
            os.close(args)
