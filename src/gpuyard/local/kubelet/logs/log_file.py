"""Places in the file of a log, whose front may be a hole."""

from __future__ import annotations

import errno
import os

_BLOCK = 64 * 1024


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
    line = start_of_line(descriptor, data)
    # One endless line: better torn than lost.
    return data if line is None else line


def start_of_line(descriptor: int, position: int) -> int | None:
    """Where the first line begins at this byte or behind it; None where no newline comes before one."""
    if position == 0:
        return 0
    newline_from = position - 1
    while block := os.pread(descriptor, _BLOCK, newline_from):
        newline = block.find(b"\n")
        if newline >= 0:
            return newline_from + newline + 1
        newline_from += len(block)
    return None


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
