"""What every start begins with: a folder, a journal, a log, and one process in a session of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.log_copier import KEEP_BYTES, start_copier
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.local.runtime.standard_input.container_input import open_input, open_terminal
from gpuyard.local.runtime.values import ContainerSpec, Exit, ExitReason

_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Descriptors:
    """What the first process of a start inherits.

    Attributes:
        journal: becomes its descriptor 2, see `process.shell`.
        output: a pipe to the log, or a terminal.
        stdin: a pipe; None for a terminal or nothing.
    """

    journal: int
    output: int
    stdin: int | None = None

    def close(self) -> None:
        """Closes them here, which also unlocks the journal unless the process lives."""
        os.close(self.journal)
        os.close(self.output)
        if self.stdin is not None:
            os.close(self.stdin)


@dataclass(frozen=True)
class Starts:
    """The beginning of a start, which is the same for every runtime.

    Attributes:
        clock: aware UTC now.
        boot_id: of the host.
        log_keep_bytes: how much of its end each log keeps.
    """

    clock: Callable[[], datetime]
    boot_id: str
    log_keep_bytes: int = KEEP_BYTES

    async def open(
        self, folder: Path, spec: ContainerSpec, isolation: str, started_at: datetime
    ) -> Descriptors:
        """Makes the folder with its journal, its log and its input; the descriptors are the caller's.

        Args:
            folder: of the start.
            spec: what will be started.
            isolation: as the journal has it.
            started_at: as the journal has it.

        Raises:
            ProcessError: they can't be made.
        """
        return await _to_the_end(asyncio.to_thread(self._prepare, folder, spec, isolation, started_at))

    def _prepare(
        self, folder: Path, spec: ContainerSpec, isolation: str, started_at: datetime
    ) -> Descriptors:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise errors.ProcessError(f"can't make the folder {folder}: {error.strerror}") from error
        journal = journals.create(
            folder / journals.JOURNAL,
            boot_id=self.boot_id,
            name=spec.name,
            isolation=isolation,
            started_at=started_at,
        )
        try:
            output, stdin = self._open_streams(folder, spec)
        except OSError as error:
            os.close(journal)
            raise _not_started(folder, error) from error
        return Descriptors(journal, output, stdin)

    def _open_streams(self, folder: Path, spec: ContainerSpec) -> tuple[int, int | None]:
        output = start_copier(folder / journals.LOG, self.log_keep_bytes, spec.held)
        try:
            if spec.tty:
                terminal = open_terminal(folder, output)
                os.close(output)
                return terminal, None
            return output, open_input(folder, once=spec.stdin_once) if spec.stdin else None
        except OSError:
            os.close(output)
            raise

    def launch(self, folder: Path, descriptors: Descriptors, spawn: Callable[[], int]) -> int:
        """The pid that `spawn` gives. Closes the descriptors, and notes in the journal when the start failed.

        Raises:
            StartError: as `spawn` does.
            ProcessError: nothing was started, and the same start may be tried again.
        """
        try:
            return spawn()
        except errors.StartError as error:
            self.note_start_error(folder, error)
            raise
        except OSError as error:
            raise _not_started(folder, error) from error
        finally:
            descriptors.close()

    def note_start_error(self, folder: Path, error: errors.StartError) -> None:
        """Keeps why a start failed in its journal."""
        exit_ = Exit(error.code, ExitReason.START_ERROR, self.clock(), error.message)
        journals.append_exit(folder / journals.JOURNAL, exit_)


def check_text(spec: ContainerSpec, *, by_shell: bool) -> None:
    """Refuses what no process can be given: arguments and variables are bytes that end with a NUL.

    Args:
        spec: what to start.
        by_shell: the environment passes through a shell, which drops names that it has no variable for.

    Raises:
        StartError: names the argument or variable, not its value, which may be a secret.
    """
    texts = {f"argument {number}": text for number, text in enumerate(spec.argv)}
    texts |= {f"the value of the variable {name}": value for name, value in spec.env.items()}
    texts |= {f"the variable name {name!r}": name for name in spec.env}
    texts |= {"the working folder": spec.working_dir}
    texts |= {f"the mount path {mount.container_path!r}": mount.container_path for mount in spec.mounts}
    for what, text in texts.items():
        try:
            encoded = os.fsencode(text)
        except UnicodeEncodeError:
            raise errors.StartError(f"{what} has a character that can't be encoded") from None
        if b"\0" in encoded:
            raise errors.StartError(f"{what} has a NUL character", remedy="take it out")
    odd = [name for name in spec.env if "=" in name or (by_shell and not _SHELL_NAME.fullmatch(name))]
    if odd:
        raise errors.StartError(
            f"the variable name {odd[0]!r} can't be passed to a process of this host",
            remedy="use letters, digits and _ only, or install bubblewrap" if by_shell else "take out the =",
        )


def _not_started(folder: Path, error: OSError) -> errors.ProcessError:
    """Removes the folder, so that the same start may be tried again."""
    remove_tree(folder)
    return errors.ProcessError(
        f"can't start a process from {folder}: {error.strerror}",
        remedy="free space on its disk, or mend its permissions",
    )


async def _to_the_end(making: Coroutine[Any, Any, Descriptors]) -> Descriptors:
    """Awaits descriptors; those that come after a cancellation are closed."""
    task = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        (await task).close()
        raise


def pidfd_of(process: procfs.ProcessStat) -> int | None:
    """A handle of this very process, None when it has ended.

    Raises:
        ProcessError: this process has no descriptor or memory left to look.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise _cannot_look(process.pid, error) from error
    # The handle first: once it is open, the pid that the start time is read of can't become another's.
    try:
        now = procfs.read_stat(process.pid)
    except OSError as error:
        os.close(pidfd)
        raise _cannot_look(process.pid, error) from error
    if now is None or now.start_ticks != process.start_ticks:
        os.close(pidfd)
        return None
    return pidfd


def _cannot_look(pid: int, error: OSError) -> errors.ProcessError:
    return errors.ProcessError(
        f"can't look at process {pid}: {error.strerror}",
        remedy="let the yard open more files (`ulimit -n`), or free memory",
    )


def popen(
    argv: list[str], env: Mapping[str, str], descriptors: Descriptors, cwd: Path, keep: int | None = None
) -> int:
    """Starts it in a session of its own with output and errors going to the log; its pid is ours to reap.

    Args:
        argv: program and arguments.
        env: the whole environment.
        descriptors: of the start.
        cwd: the folder to start in.
        keep: one more descriptor for it to inherit.

    Raises:
        StartError: it can't be started.
    """
    try:
        process = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL if descriptors.stdin is None else descriptors.stdin,
            stdout=descriptors.output,
            stderr=descriptors.journal,
            pass_fds=() if keep is None else (keep,),
            start_new_session=True,
            umask=0o022,
        )
    except OSError as error:
        what = (
            "its command line and environment are too long" if error.errno == errno.E2BIG else error.strerror
        )
        raise errors.StartError(f"can't start a process: {what}", code=126) from error
    # Popen would reap it, or complain that it lives on: both are the Container's business.
    process.returncode = 0
    return process.pid
