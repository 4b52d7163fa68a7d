"""Whether the disk that holds a yard's data has room, and what its file system can do.

The rule, by what is free:

    64 MiB and more     all goes on
    less                all goes on, and commands warn
    less than 8 MiB     full: new runs may be refused, or wait. Whether they are depends on what was there
                        before: once the store has used its reserve it makes that again first (docs/adr/0022)

Source: fallocate(2).
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

MIB = 1 << 20
#: Enough for the store's reserve to be made again whole, and for a run to start.
LEAST_FREE_BYTES = 8 * MIB
_LITTLE_BYTES = 64 * MIB
#: What a full disk means for new runs.
REFUSED_OR_WAIT = "new runs may be refused, or wait"

KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_TRIAL_BYTES = 64 << 10
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)


def shortage(folder: Path) -> str:
    """Says that the disk of a folder is full; empty when it isn't, and when nobody can tell."""
    free_bytes = _free_bytes(folder)
    if free_bytes >= LEAST_FREE_BYTES:
        return ""
    return (
        f"the disk that holds {folder} is full: {free_bytes // MIB} MiB are free, "
        f"{LEAST_FREE_BYTES // MIB} MiB are needed"
    )


def disk_warning(folder: Path) -> str:
    """What a command warns of: a full disk or one that is nearly so; else empty."""
    if problem := shortage(folder):
        return f"{problem}; until then {REFUSED_OR_WAIT}"
    free_bytes = _free_bytes(folder)
    if free_bytes >= _LITTLE_BYTES:
        return ""
    return (
        f"the disk that holds {folder} is nearly full: {free_bytes // MIB} MiB are free; "
        f"below {LEAST_FREE_BYTES // MIB} MiB {REFUSED_OR_WAIT}"
    )


def _free_bytes(folder: Path) -> int:
    """Plenty when nobody can tell."""
    try:
        usage = os.statvfs(folder)
    except OSError:
        return sys.maxsize
    return usage.f_bavail * usage.f_frsize


def frees_fronts(folder: Path) -> bool:
    """Whether files in this folder can lose their front and keep their offsets, as logs do at their bound.

    It is tried with a file that leaves nothing behind; True also where that can't be done.
    """
    import tempfile  # long to import, and commands need only `disk_warning`

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
