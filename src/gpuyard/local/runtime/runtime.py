"""Starts containers and finds them again after the daemon was away."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.cgroups import Cgroups, find_cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.ending import conclude, rebooted
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.members import marked, send
from gpuyard.local.runtime.podman.container import PodmanContainer, exit_code, prepare_run, start_error
from gpuyard.local.runtime.podman.host import PODMAN, Podman
from gpuyard.local.runtime.process.programs import check_text, check_working_dir, find_program
from gpuyard.local.runtime.process.sandbox import (
    BUBBLEWRAP,
    Isolation,
    bubblewrap_args,
    check_word_count,
    find_isolation,
)
from gpuyard.local.runtime.process.shell import JOURNAL_FD, shell_argv
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.local.runtime.values import ENV_CONTAINER, ContainerSpec, Exit, ExitReason

_POLL_S = 0.005


class Runtime:
    """Runs containers as processes of this process's own user, in sessions of their own.

    A start has a folder: its journal, its log and its own /tmp. The folder is all that another Runtime needs
    to adopt the container, whenever this one is killed. Methods belong to the running event loop.
    """

    def __init__(
        self,
        isolation: Isolation,
        cgroups: Cgroups,
        clock: Callable[[], datetime],
        *,
        boot_id: str | None = None,
        podman: Podman | None = None,
    ) -> None:
        """Makes a runtime; see `find_isolation` and `find_cgroups`.

        Args:
            isolation: how containers are kept apart.
            cgroups: where limits are set.
            clock: aware UTC now.
            boot_id: of the host; read from /proc when None.
            podman: for containers with an image; None refuses them.
        """
        self.isolation = isolation
        self.cgroups = cgroups
        self.podman = podman or Podman(None, "")
        self._clock = clock
        self._boot_id = procfs.boot_id() if boot_id is None else boot_id

    @classmethod
    async def open(
        cls, name: str, search_path: str, clock: Callable[[], datetime], *, podman: Podman | None = None
    ) -> Runtime:
        """Tries once what this host permits.

        Args:
            name: tells this yard's cgroups from those of others on this host.
            search_path: where bwrap is looked for, as in PATH.
            clock: aware UTC now.
            podman: of this host; its probe is the caller's to run.
        """
        isolation = await find_isolation(search_path)
        cgroups = await asyncio.to_thread(find_cgroups, f"gpuyard-{name}")
        return cls(isolation, cgroups, clock, podman=podman)

    async def start(self, folder: Path, spec: ContainerSpec) -> Container:
        """Starts a container in a new folder.

        Raises:
            StartError: the program, working folder, a device or a mount isn't there or isn't permitted. The
                journal says so too: an adoption gives the Exit.
            ProcessError: the folder can't be made.
            ImageError: it has an image, and containers can't run here.
        """
        if spec.image is not None:
            return await self._start_image(folder, spec)
        level = self.isolation.level
        journal = await _to_the_end(asyncio.to_thread(self._prepare, folder, spec, level))
        pid = self._launch(folder, spec, journal, self._spawn)
        return Container(folder, pid, os.pidfd_open(pid), self.cgroups, self._clock)

    async def _start_image(self, folder: Path, spec: ContainerSpec) -> Container:
        await self.podman.ready()
        journal = await _to_the_end(asyncio.to_thread(self._prepare, folder, spec, PODMAN))
        pid = self._launch(folder, spec, journal, self._spawn_podman)
        # When this is cancelled the shell goes on, and what it starts is there to be adopted.
        code = await exit_code(pid)
        started = journals.read(folder / journals.JOURNAL)
        if code != 0 or started is None or started.started is None:
            failure = start_error(folder, code)
            self._note_start_error(folder, failure)
            await self.podman.remove(spec.name)
            raise failure
        return self._container(folder, started)

    def _launch(
        self,
        folder: Path,
        spec: ContainerSpec,
        journal: int,
        spawn: Callable[[Path, ContainerSpec, int], int],
    ) -> int:
        """The pid that `spawn` gives; closes the journal and puts things in order when it fails."""
        try:
            return spawn(folder, spec, journal)
        except errors.StartError as error:
            self._note_start_error(folder, error)
            self.cgroups.remove(spec.name)
            raise
        except OSError as error:
            # Nothing was started: the same start may be tried again.
            remove_tree(folder)
            raise errors.ProcessError(
                f"can't start a process from {folder}: {error.strerror}",
                remedy="free space on its disk, or mend its permissions",
            ) from error
        finally:
            os.close(journal)

    def _note_start_error(self, folder: Path, error: errors.StartError) -> None:
        exit_ = Exit(error.code, ExitReason.START_ERROR, self._clock(), error.message)
        journals.append_exit(folder / journals.JOURNAL, exit_)

    def _container(self, folder: Path, journal: Journal) -> Container:
        """The handle of a start that the journal knows of."""
        assert journal.started is not None
        pid, pidfd = journal.started.pid, _pidfd_of(journal.started)
        if journal.isolation == PODMAN:
            return PodmanContainer(folder, pid, pidfd, self.cgroups, self._clock, self.podman)
        return Container(folder, pid, pidfd, self.cgroups, self._clock)

    def _prepare(self, folder: Path, spec: ContainerSpec, level: str) -> int:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise errors.ProcessError(f"can't make the folder {folder}: {error.strerror}") from error
        return journals.create(
            folder / journals.JOURNAL,
            boot_id=self._boot_id,
            name=spec.name,
            isolation=level,
            started_at=self._clock(),
        )

    def _spawn_podman(self, folder: Path, spec: ContainerSpec, journal: int) -> int:
        check_text(spec, by_shell=False)
        argv, env = prepare_run(self.podman, folder, spec)
        return _popen(argv, env, folder / journals.LOG, journal, Path("/"))

    def _spawn(self, folder: Path, spec: ContainerSpec, journal: int) -> int:
        isolated = self.isolation.level == BUBBLEWRAP
        check_text(spec, by_shell=not isolated)
        working_dir = check_working_dir(spec.working_dir)
        program = find_program(spec.argv[0], spec.env, working_dir)
        command = [program, *spec.argv[1:]]
        env = {**spec.env, ENV_CONTAINER: spec.name}
        try:
            groups = self.cgroups.create(spec.name, spec.limits)
        except OSError as error:
            raise errors.StartError(
                f"the kernel refuses the limits of CPU and memory: {error.strerror}"
            ) from error
        if not isolated:
            argv = shell_argv(groups, command, stay=True)
            return _popen(argv, env, folder / journals.LOG, journal, working_dir)
        tmp = folder / journals.TMP
        tmp.mkdir(mode=0o700)
        tmp.chmod(0o1777)
        setup = bubblewrap_args(replace(spec, env=env), tmp)
        check_word_count(setup, command)
        args = os.memfd_create("bwrap-args", os.MFD_CLOEXEC)
        try:
            # Through a file: an environment has secrets, and arguments are public.
            with os.fdopen(os.dup(args), "wb") as file:
                for arg in setup:
                    file.write(os.fsencode(arg) + b"\0")
            os.lseek(args, 0, os.SEEK_SET)
            bwrap = [self.isolation.program, "--args", str(args), "--json-status-fd", str(JOURNAL_FD), "--"]
            argv = shell_argv(groups, [*bwrap, *command], stay=False)
            return _popen(argv, {}, folder / journals.LOG, journal, Path("/"), keep=args)
        finally:
            os.close(args)

    async def adopt(self, folder: Path) -> Container | Exit | None:
        """What became of a start: it runs (or has just ended), it ended, or nothing was ever started.

        In the last case the folder is removed and the container may be started again.

        Raises:
            ProcessError: the journal can't be read.
        """
        path = folder / journals.JOURNAL
        journal = journals.read(path)
        # Without even the intent it is damaged, and whoever holds the lock won't mend it.
        while journal and journal.boot_id and _is_undecided(journal) and journals.is_locked(path):
            await asyncio.sleep(_POLL_S)
            journal = journals.read(path)
        if journal is None or (_is_undecided(journal) and journal.boot_id in ("", self._boot_id)):
            # The shell names itself before anything else, and the lock says that there is none.
            if journal is not None and journal.isolation == PODMAN:
                await self.podman.remove(journal.name)
            await asyncio.to_thread(remove_tree, folder)
            return None
        if journal.exit is not None:
            return journal.exit
        if journal.boot_id != self._boot_id:
            return self._end_before_boot(folder, journal)
        return self._container(folder, journal)

    async def end_lost(self, name: str) -> None:
        """Ends what is left of the start of this name, of which no journal is left."""
        while left := await asyncio.to_thread(marked, name):
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


async def _to_the_end(making: Coroutine[Any, Any, int]) -> int:
    """Awaits a descriptor; one that comes after a cancellation is closed, which also unlocks its file."""
    task = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        os.close(await task)
        raise


def _is_undecided(journal: Journal) -> bool:
    """Whether the intent is written and nothing tells that a process was started for it."""
    return journal.started is None and journal.exit is None


def _pidfd_of(process: procfs.ProcessStat) -> int | None:
    """A handle of this very process, None when it has ended."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # The handle first: once it is open, the pid that the start time is read of can't become another's.
    now = procfs.read_stat(process.pid)
    if now is None or now.start_ticks != process.start_ticks:
        os.close(pidfd)
        return None
    return pidfd


def _popen(
    argv: list[str], env: Mapping[str, str], log_path: Path, journal: int, cwd: Path, keep: int | None = None
) -> int:
    """Starts it in a session of its own with output and errors in the log; its pid is ours to reap.

    Args:
        journal: becomes descriptor 0, see `shell`.
        keep: one more descriptor for it to inherit.
    """
    log_file = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=journal,
            stdout=log_file,
            stderr=log_file,
            pass_fds=() if keep is None else (keep,),
            start_new_session=True,
            umask=0o022,
        )
    except OSError as error:
        what = (
            "its command line and environment are too long" if error.errno == errno.E2BIG else error.strerror
        )
        raise errors.StartError(f"can't start a process: {what}", code=126) from error
    finally:
        os.close(log_file)
    # Popen would reap it, or complain that it lives on: both are the Container's business.
    process.returncode = 0
    return process.pid
