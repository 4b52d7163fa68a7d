"""Opening files that a run could have replaced: a FIFO would block the whole event loop, a link leads
elsewhere."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the file of this very name.

    Args:
        path: of the file.
        flags: of open(2); the file isn't inherited, and a link isn't followed.

    Raises:
        OSError: it isn't there, isn't a regular file or may not be opened.
    """
    # Without O_NONBLOCK the opening of a FIFO waits for its other end.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it isn't a regular file", str(path))
