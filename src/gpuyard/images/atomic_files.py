"""Files and folders that get their real name when they are whole, and what killed builds leave of them.

Whoever writes one holds a lock on it (flock), which the kernel lets go of with the process. So what is named
like one and isn't locked belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
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
        file = tempfile.NamedTemporaryFile(prefix=PREFIX, dir=folder, delete=False)  # noqa: SIM115
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
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        with suppress(FileNotFoundError):
            handle = os.open(made, os.O_RDONLY)
            _lock(handle)
            if os.fstat(handle).st_nlink:
                break
            os.close(handle)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Removes what killed builds left in a folder; what another build is writing stays."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                _remove(Path(entry.path))


def _remove(path: Path) -> None:
    # Whoever can't be asked, or may not be removed by this user, is left to the next sweep.
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(handle)


def _lock(handle: int) -> None:
    # A file system without locks has no sweeps either, since those ask for one.
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
