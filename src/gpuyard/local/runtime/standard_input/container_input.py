"""Standard input and terminals of containers: made with the container, and reached by those who attach.

Beside the container a small process keeps the other side of it (`keeper`), whatever becomes of the
daemon. A socket in the folder of the start leads to it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.members import patiently
from gpuyard.local.runtime.standard_input import keeper

_PATIENCE_S = 5.0
_PTMX = os.makedev(5, 2)


def open_input(folder: Path, *, once: bool) -> int:
    """Makes a container's standard input, and keeps it open; the descriptor to read from is the caller's.

    Args:
        folder: of the start.
        once: it ends with the first who attaches.

    Raises:
        OSError: it can't be made.
    """
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(write_end, False)
        _start_keeper(folder, "once" if once else "pipe", [write_end])
    except BaseException:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return read_end


def open_terminal(folder: Path, output: int) -> int:
    """Makes a container's terminal, and keeps it; its side of the program is the caller's.

    Args:
        folder: of the start.
        output: gets what the terminal prints.

    Raises:
        OSError: it can't be made.
    """
    ours, theirs = os.openpty()
    try:
        os.set_blocking(ours, False)
        _start_keeper(folder, "tty", [ours, output])
    except BaseException:
        os.close(theirs)
        raise
    finally:
        os.close(ours)
    return theirs


def _start_keeper(folder: Path, kind: str, kept: Sequence[int]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        with _socket_path(folder) as path:
            listener.bind(path)
            os.chmod(path, 0o600)  # noqa: PTH101 - a path through a descriptor
        listener.listen(keeper.BACKLOG)
        passed = [listener.fileno(), *kept]
        words = [sys.executable, "-I", "-S", keeper.__file__, kind, *map(str, passed)]
        # The shell goes at once and leaves the keeper to init: it isn't ours to reap.
        done = subprocess.run(
            ["/bin/sh", "-c", 'trap "" HUP INT TERM; "$@" &', "gpuyard-input", *words],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=passed,
            check=False,
        )
    if done.returncode != 0:
        raise OSError(None, "what keeps its standard input can't be started")


@contextmanager
def _socket_path(folder: Path) -> Iterator[str]:
    """The socket's path, short enough for its address: a unix socket's has 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{journals.STDIN}"
    finally:
        os.close(descriptor)


class ContainerInput:
    """Standard input and terminal of a container, for one who attaches. Implements `AttachedInput`.

    Attributes:
        stdin: where input is written, without blocking; None where none is taken.
    """

    def __init__(self, kept: int | None, *, stdin: bool) -> None:
        """Takes the descriptor over."""
        self._kept = kept
        self.stdin = kept if stdin else None

    @classmethod
    async def open(cls, folder: Path, *, stdin: bool) -> ContainerInput:
        """Connects to the container that was started in this folder, which may take none, or none any more.

        Args:
            folder: of the start.
            stdin: whether input is to be given to it.
        """
        receiving = asyncio.ensure_future(patiently(partial(_receive, folder)))
        try:
            return cls(await asyncio.shield(receiving), stdin=stdin)
        except asyncio.CancelledError:
            cls(await receiving, stdin=False).close()
            raise

    def close_stdin(self) -> None:
        """See `AttachedInput.close_stdin`."""
        self.stdin = None
        if self._kept is not None and not os.isatty(self._kept):
            self.close()

    def resize(self, width: int, height: int) -> None:
        """See `AttachedInput.resize`."""
        if self._kept is not None:
            with suppress(OSError):
                fcntl.ioctl(self._kept, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def close(self) -> None:
        """See `AttachedInput.close`."""
        self.stdin = None
        if self._kept is not None:
            os.close(self._kept)
            self._kept = None


def _receive(folder: Path) -> int | None:
    """What the keeper gives; None where there is none, or it has nothing more to give."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE_S)
        try:
            with _socket_path(folder) as path:
                connection.connect(path)
            if not _is_of_this_host(connection):
                return None
            _, got, _, _ = socket.recv_fds(connection, 1, 1)
        except OSError as error:
            if procfs.is_shortage(error):
                raise
            return None
    for descriptor in got:
        try:
            return _without_blocking(descriptor)
        finally:
            os.close(descriptor)
    return None


def _is_of_this_host(connection: socket.socket) -> bool:
    """Whether who listens isn't in a sandbox: from there the socket can be replaced by another."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, keeper.CREDENTIALS.size)
    return procfs.pid_namespace(keeper.CREDENTIALS.unpack(raw)[0]) == procfs.pid_namespace(os.getpid())


def _without_blocking(descriptor: int) -> int | None:
    """The same pipe or terminal; None for anything else, and where nobody reads any more."""
    status = os.fstat(descriptor)
    if status.st_rdev == _PTMX:  # Opening it again would make another terminal.
        os.set_blocking(descriptor, False)
        return os.dup(descriptor)
    if not stat.S_ISFIFO(status.st_mode):
        return None
    try:
        # Whoever has the same open file can make that block: so it is another.
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if procfs.is_shortage(error):
            raise
        return None
