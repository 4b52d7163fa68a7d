"""When the lines of a container's log were written.

The copier of a log is a shell, which can't date what it copies. So the kubelet looks several times a second
how long the log of a running container is and when it was last written, and notes both beside the log. What
was printed between two looks has the time of the last write before the second one; what was printed while no
yard was up, that of the last write before it came back.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

from gpuyard.atomic_files import replace_file
from gpuyard.local.runtime import journal as journals
from gpuyard.regular_files import open_regular

#: Of a log that grows all the time they last for an hour; then the older half of them is thinned.
MAX_LOOKS = 1 << 14
_LOOK = struct.Struct(">QQ")
_FILE = "log-times"
_NS_PER_US = 1000


class LogTimes:
    """The looks at one log; both columns ascend.

    Args:
        folder: of the start of the container that the log is of.
    """

    def __init__(self, folder: Path) -> None:
        self._log, self._file = folder / journals.LOG, folder / _FILE
        self._sizes, self._times = array("Q"), array("Q")
        self._load()

    def look(self) -> None:
        """Notes how long the log is now."""
        try:
            found = os.lstat(self._log)
        except OSError:  # it is being removed
            return
        size = self._sizes[-1] if self._sizes else 0
        if not stat.S_ISREG(found.st_mode) or found.st_size <= size:
            return
        # A clock may be put back; a log's lines stay in their order.
        time_us = max(found.st_mtime_ns // _NS_PER_US, self._times[-1] if self._times else 0)
        self._sizes.append(found.st_size)
        self._times.append(time_us)
        # Where it can't be written, as on a full disk, later looks have what is missing.
        with suppress(OSError):
            if len(self._sizes) > MAX_LOOKS:
                self._thin()
            else:
                self._append(found.st_size, time_us)

    def time_us(self, offset: int) -> int:
        """When the byte was written, in microseconds since 1970; it was there at the last look."""
        return self._times[min(bisect_right(self._sizes, offset), len(self._times) - 1)]

    def end(self, offset: int) -> int:
        """Up to where the bytes from this one on have its time; the byte's own place where no look saw it."""
        place = bisect_right(self._sizes, offset)
        return self._sizes[place] if place < len(self._sizes) else offset

    def first_since(self, time_us: int) -> int:
        """The first byte that was written at that time or later."""
        older = bisect_right(self._times, time_us - 1)
        return self._sizes[older - 1] if older else 0

    def _thin(self) -> None:
        half = len(self._sizes) // 2
        for column in (self._sizes, self._times):
            column[:half] = column[1:half:2]
        pairs = zip(self._sizes, self._times, strict=True)
        replace_file(self._file, b"".join(_LOOK.pack(*pair) for pair in pairs), mode=0o600, durable=False)

    def _append(self, size: int, time_us: int) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Half a look, which a full disk or a crash may leave, would shift all that follow.
            whole = os.fstat(descriptor).st_size // _LOOK.size * _LOOK.size
            os.pwrite(descriptor, _LOOK.pack(size, time_us), whole)
        finally:
            os.close(descriptor)

    def _load(self) -> None:
        try:
            with os.fdopen(open_regular(self._file), "rb") as file:
                text = file.read(_LOOK.size * (MAX_LOOKS + 1))
        except OSError:  # nobody has looked yet
            return
        for size, time_us in _LOOK.iter_unpack(text[: len(text) - len(text) % _LOOK.size]):
            # Two readers of a log that is over may have noted the same.
            if self._sizes and (size <= self._sizes[-1] or time_us < self._times[-1]):
                continue
            self._sizes.append(size)
            self._times.append(time_us)
