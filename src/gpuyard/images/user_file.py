"""Small files that a user wrote, read so that nothing else by their name holds a command up."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_MOST_BYTES = 64 << 20


def read_user_file(path: Path) -> bytes:
    """The whole content.

    Raises:
        OSError: it can't be read, is larger than a person or a lock writes, or is no regular file: a named
            pipe keeps its reader waiting, and a device may never end.
    """
    with open(path, "rb", opener=_open_now) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it isn't a regular file", str(path))
        if state.st_size > _MOST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {_MOST_BYTES >> 20} MiB", str(path))
        return file.read(_MOST_BYTES)


def _open_now(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
