"""What every start begins with: a folder, a journal in it, and one process in a session of its own."""

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
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.local.runtime.values import ContainerSpec, Exit, ExitReason

_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Starts:
    """The beginning of a start, which is the same for every runtime.

    Attributes:
        clock: aware UTC now.
        boot_id: of the host.
    """

    clock: Callable[[], datetime]
    boot_id: str

    async def open(self, folder: Path, name: str, isolation: str) -> int:
        """Makes the folder and its journal; the journal's descriptor is the caller's.

        Raises:
            ProcessError: they can't be made.
        """
        return await _to_the_end(asyncio.to_thread(self._prepare, folder, name, isolation))

    def _prepare(self, folder: Path, name: str, isolation: str) -> int:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise errors.ProcessError(f"can't make the folder {folder}: {error.strerror}") from error
        return journals.create(
            folder / journals.JOURNAL,
            boot_id=self.boot_id,
            name=name,
            isolation=isolation,
            started_at=self.clock(),
        )

    def launch(self, folder: Path, journal: int, spawn: Callable[[], int]) -> int:
        """The pid that `spawn` gives. Closes the journal, and notes there when the start failed.

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
            remove_tree(folder)
            raise errors.ProcessError(
                f"can't start a process from {folder}: {error.strerror}",
                remedy="free space on its disk, or mend its permissions",
            ) from error
        finally:
            os.close(journal)

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


async def _to_the_end(making: Coroutine[Any, Any, int]) -> int:
    """Awaits a descriptor; one that comes after a cancellation is closed, which also unlocks its file."""
    task = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        os.close(await task)
        raise


def pidfd_of(process: procfs.ProcessStat) -> int | None:
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


def popen(
    argv: list[str], env: Mapping[str, str], log_path: Path, journal: int, cwd: Path, keep: int | None = None
) -> int:
    """Starts it in a session of its own with output and errors in the log; its pid is ours to reap.

    Args:
        argv: program and arguments.
        env: the whole environment.
        log_path: of the log.
        journal: becomes descriptor 0, see `process.shell`.
        cwd: the folder to start in.
        keep: one more descriptor for it to inherit.

    Raises:
        StartError: it can't be started.
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
