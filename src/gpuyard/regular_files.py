"""Opening files in whose place something else may lie: a FIFO would keep its reader waiting, and with it a
whole event loop; a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_MAX_BYTES = 64 << 20


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow_links: bool = False) -> int:
    """A descriptor of a file. It isn't inherited; a file that is made has the mode 0600.

    Args:
        path: of the file.
        flags: of open(2).
        follow_links: False for a file in a folder that a run may write: a link there leads elsewhere.

    Raises:
        OSError: it isn't there, isn't a regular file or may not be opened.
    """
    if not follow_links:
        flags |= os.O_NOFOLLOW
    # Without O_NONBLOCK the opening of a FIFO waits for its other end.
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a FIFO that nobody reads
            raise _not_regular(path, 0) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise _not_regular(path, mode)


def read_regular(path: Path, *, max_bytes: int = _MAX_BYTES) -> bytes:
    """The whole content of a small file, also through links.

    Args:
        path: of the file.
        max_bytes: of it; by default, more than a person or a lock writes.

    Raises:
        OSError: as of `open_regular`, or it is larger.
    """
    with os.fdopen(open_regular(path, follow_links=True), "rb") as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {max_bytes >> 20} MiB", str(path))
        return file.read(max_bytes)


def _not_regular(path: Path, mode: int) -> OSError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return OSError(errno.EINVAL, "it isn't a regular file", str(path))
