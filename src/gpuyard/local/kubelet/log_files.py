"""Reading and bounding the log of one container start, which its processes write to without us between.

The file only ever grows. What is too old is punched out of its front: offsets stay what they were, so nobody
who writes or reads at that moment loses a byte or gets one twice.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_BLOCK = 64 * 1024
#: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of linux/falloc.h.
_PUNCH_HOLE = 0x01 | 0x02


def next_data(descriptor: int, position: int) -> int:
    """`position`, or where it lies in a hole, the start of the first line behind it."""
    # The size first: what is appended after the look for data must not be skipped with the hole before it.
    size = os.fstat(descriptor).st_size
    try:
        data = os.lseek(descriptor, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # at the end, or nothing but a hole up to it
            return max(position, size)
        return position  # a file system without holes
    if data == position:
        return position
    newline_from = data - 1
    while block := os.pread(descriptor, _BLOCK, newline_from):
        newline = block.find(b"\n")
        if newline >= 0:
            return newline_from + newline + 1
        newline_from += len(block)
    return data  # one endless line: better torn than lost


def start_of_tail(descriptor: int, lines: int) -> int:
    """Where the last `lines` lines begin; the text after the last newline counts as one."""
    begin, end = next_data(descriptor, 0), os.fstat(descriptor).st_size
    if lines == 0:
        return end
    position, left = end, lines
    # The newline that ends the last line begins none.
    if end > begin and os.pread(descriptor, 1, end - 1) == b"\n":
        position -= 1
    while position > begin:
        start = max(begin, position - _BLOCK)
        block = os.pread(descriptor, position - start, start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            left -= 1
            if left == 0:
                return start + at + 1
        position = start
    return begin


def drop_front(path: Path, keep_bytes: int) -> bool:
    """Gives the space of all but the last `keep_bytes` back, to a whole block.

    Returns:
        False when the file system can't.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        status = os.fstat(descriptor)
        length = (status.st_size - keep_bytes) // status.st_blksize * status.st_blksize
        if length <= 0 or status.st_blocks * 512 <= keep_bytes + status.st_blksize:
            return True
        return _punch_hole(descriptor, length)
    finally:
        os.close(descriptor)


def _punch_hole(descriptor: int, length: int) -> bool:
    import ctypes  # only where a log has grown that large

    libc = ctypes.CDLL(None, use_errno=True)
    offset_type = ctypes.c_int64
    libc.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, offset_type, offset_type]
    if libc.fallocate64(descriptor, _PUNCH_HOLE, 0, length) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number))
