"""Whether the disk that holds a yard's data has room, and what its file system can do.

Source: fallocate(2).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MIB = 1 << 20
#: Below this a run may find no room for its log; the store refuses new objects when there is none at all.
LEAST_FREE_BYTES = 64 * MIB

KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_TRIAL_BYTES = 64 << 10
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


def shortage(folder: Path) -> str:
    """What is wrong with the disk of a folder; empty when it has room, and when nobody can tell."""
    try:
        usage = os.statvfs(folder)
    except OSError:
        return ""
    free_bytes = usage.f_bavail * usage.f_frsize
    if free_bytes >= LEAST_FREE_BYTES:
        return ""
    return (
        f"the disk that holds {folder} is full: {free_bytes // MIB} MiB are free, "
        f"{LEAST_FREE_BYTES // MIB} MiB are needed"
    )


def frees_fronts(folder: Path) -> bool:
    """Whether files in this folder can lose their front and keep their offsets, as logs do at their bound.

    It is tried with a file that leaves nothing behind; True also where that can't be done.
    """
    import tempfile  # long to import, and commands need only `shortage`

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            fallocate(file.fileno(), KEEP_SIZE | _PUNCH_HOLE, 0, _TRIAL_BYTES)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    return True


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """The system call, which Python has only with mode 0.

    Raises:
        OSError: it can't.
    """
    import ctypes  # cheap where it is loaded already

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate64(descriptor, mode, offset, length):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
