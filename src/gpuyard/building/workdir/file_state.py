"""What tells that a file is as it was, without reading it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """What a file is known by, beside its path."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        """Of what stat says."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def path_key(path: str) -> str:
    """A path as JSON can hold it, whatever its bytes."""
    return path if path.isascii() else os.fsencode(path).decode("latin-1")


def file_system_time_ns(folder: Path, device: int) -> int | None:
    """The time by the clock of the file system, which is `device`; None where nobody can tell.

    That is: the folder can't be written or is on another one, or ctime there is no more than mtime, which
    programs set as they like.
    """
    try:
        probe = _unnamed_file(folder)
        try:
            os.utime(probe, ns=(0, 0))
            found = os.fstat(probe)
        finally:
            os.close(probe)
    except OSError:
        return None
    return found.st_ctime_ns if found.st_dev == device and found.st_mtime_ns != found.st_ctime_ns else None


def _unnamed_file(folder: Path) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    import tempfile  # Few file systems need a name, and it costs start-up time.

    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())
