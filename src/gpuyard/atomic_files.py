"""Files and folders that get their real name when they are whole, and what killed programs leave of them.

Whoever writes one holds a lock on it (flock), which the kernel lets go of with the process. So what is named
like one and isn't locked belongs to nobody any more.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

#: No file of the user's is called so; what is, never goes into an image.
PREFIX = ".gpuyard-new-"


@contextmanager
def unfinished_file(folder: Path) -> Iterator[IO[bytes]]:
    """A new file with `name`, mode 0600; gone at the block's end unless it was flushed and renamed.

    Raises:
        OSError: it can't be made.
    """
    while True:
        path = str(folder / f"{PREFIX}{os.urandom(8).hex()}")
        file = open(path, "x+b", opener=_open_private)  # noqa: SIM115 - Path.open has no opener
        _lock(file.fileno())
        # Between these two lines a sweep may have taken it for a leftover.
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()
    try:
        yield file
    finally:
        # What could not be written any more was of no use: a file that is kept was flushed before.
        with suppress(OSError):
            file.close()
        Path(file.name).unlink(missing_ok=True)


@contextmanager
def unfinished_folder(folder: Path) -> Iterator[Path]:
    """A new folder, mode 0700; gone at the block's end.

    Raises:
        OSError: it can't be made.
    """
    while True:
        made = folder / f"{PREFIX}{os.urandom(8).hex()}"
        made.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            handle = os.open(made, os.O_RDONLY)
            _lock(handle)
            if os.fstat(handle).st_nlink:
                break
            os.close(handle)
    try:
        yield made
    finally:
        _remove_folder(made)
        os.close(handle)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder among the machine's temporary files, gone at the block's end; what killed programs left of
    theirs goes before.

    Raises:
        OSError: it can't be made.
    """
    import tempfile  # Only where it is needed: it costs start-up time.

    folder = Path(tempfile.gettempdir())
    sweep(folder)
    with unfinished_folder(folder) as made:
        yield made


def replace_file(path: Path, content: bytes, *, mode: int, durable: bool = True) -> None:
    """Gives a file this content and mode. Whoever reads it, or starts again after a kill at any moment, finds
    the old content or the new.

    Args:
        path: of the file, in a folder that is there.
        content: all of it.
        mode: its permissions, whatever the umask.
        durable: it is on the disk on return. Else the host's crash may leave it empty.

    Raises:
        OSError: it can't be written; the old content is untouched.
    """
    sweep(path.parent)
    with unfinished_file(path.parent) as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        if durable:
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Has the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems can't, and don't need to
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Removes what killed programs left in a folder; what another one is writing stays."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                _remove(Path(entry.path))


def _remove(path: Path) -> None:
    # Whoever can't be asked, or may not be removed by this user, is left to the next sweep.
    with suppress(OSError):
        # A FIFO of that name would wait for its other end.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                _remove_folder(path)
            else:
                path.unlink()
        finally:
            os.close(handle)


def _remove_folder(folder: Path) -> None:
    import shutil  # Only where it is needed: it costs start-up time.

    shutil.rmtree(folder, ignore_errors=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _lock(handle: int) -> None:
    # A file system without locks has no sweeps either, since those ask for one.
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
