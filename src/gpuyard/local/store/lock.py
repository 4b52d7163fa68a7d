"""One process per data folder."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from gpuyard import errors
from gpuyard.regular_files import open_regular

_RETRY_S = 0.02


class FolderLock:
    """Holds an exclusive lock on a file whose text is the owner's pid.

    The kernel drops the lock with the process, however it dies, so a pid left in the file means nothing
    by itself. The descriptor isn't inherited: processes that outlive the owner don't hold it.
    """

    def __init__(self, path: Path, *, patience_s: float = 0.3) -> None:
        """Takes the lock.

        Args:
            path: made when it isn't there.
            patience_s: how long to try. Commands that look whether a daemon is there hold the lock,
                shared, for an instant.

        Raises:
            StoreLocked: another process, or this one, holds it.
            StoreUnwritable: the file can't be opened for writing.
            StoreFull: no space for the pid.
        """
        self.path = path
        try:
            self._fd = open_regular(path, os.O_RDWR | os.O_CREAT, follow_links=True)
        except OSError as error:
            raise unusable(path, error) from error
        try:
            self._take(time.monotonic() + patience_s)
        except BaseException:
            os.close(self._fd)
            raise

    def _take(self, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise self._held() from error
                time.sleep(_RETRY_S)
        try:
            text = f"{os.getpid()}\n".encode()
            os.pwrite(self._fd, text, 0)
            os.ftruncate(self._fd, len(text))
        except OSError as error:
            raise unusable(self.path, error) from error

    def _held(self) -> errors.StoreLocked:
        # Empty in the moment between its owner's lock and its owner's write.
        pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
        return errors.StoreLocked(
            f"{self.path.parent} is in use by the process with pid {pid}",
            remedy="use that yard, stop it with gpuyard down, or set GPUYARD_HOME to another folder",
        )

    def release(self) -> None:
        """Lets the next one in; the file stays, since removing it would race with whoever opens it."""
        os.close(self._fd)


def unusable(path: Path, error: OSError) -> errors.StoreError:
    """What an OSError on a file of the data folder means to its user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full(path)
    if path.exists() and not path.is_file():
        return errors.StoreUnwritable(
            f"{path} isn't a regular file", remedy=f"remove {path}, and say `gpuyard up` again"
        )
    return errors.StoreUnwritable(
        f"can't write {path}: {error.strerror}",
        remedy="give this user write permission on the folder, or set GPUYARD_HOME to one that has it",
    )


def full(path: Path) -> errors.StoreFull:
    """No space left beside `path`."""
    return errors.StoreFull(
        f"no space left on the disk that holds {path}; nothing was written",
        remedy="free some space there, then try again",
    )
