"""What trying this host leaves behind when the process that tries is killed, and how that is found again."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpuyard.local.runtime.procfs import boot_id, pid_namespace, read_stat
from gpuyard.local.runtime.removal import remove_tree

_PREFIX = "gpuyard-trial-"


@contextlib.contextmanager
def trial_folder(parent: Path | None = None) -> Iterator[Path]:
    """An empty folder below /tmp for a trial; those of processes that were killed are removed first."""
    parent = parent or Path(tempfile.gettempdir())
    for path in parent.glob(f"{_PREFIX}*"):
        mark = path.name.removeprefix(_PREFIX).rpartition("-")[0]
        with contextlib.suppress(OSError):
            if is_left_behind(mark) and path.lstat().st_uid == os.getuid():
                remove_tree(path)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{mark_of(os.getpid())}-", dir=parent))
    try:
        yield folder
    finally:
        remove_tree(folder)


def mark_of(pid: int) -> str:
    """Names one living process of this host for ever: boot, PID namespace, pid and start."""
    stat = read_stat(pid)
    return f"{boot_id()}.{pid_namespace(pid)}.{pid}.{stat.start_ticks if stat else 0}"


def is_left_behind(mark: str) -> bool:
    """Whether the process of this mark is gone; False where that can't be seen from here."""
    boot, _, rest = mark.partition(".")
    namespace, _, process = rest.partition(".")
    pid, _, start_ticks = process.partition(".")
    if not (pid.isdecimal() and start_ticks.isdecimal()):
        return False
    if boot != boot_id():
        return True
    if namespace != str(pid_namespace(os.getpid())):
        return False
    stat = read_stat(int(pid))
    return stat is None or stat.is_dead or stat.start_ticks != int(start_ticks)
