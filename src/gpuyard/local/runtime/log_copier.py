"""From what a container prints to its log: a pipe, and beside the container a shell that copies it.

The log itself must not be a process's standard output: whoever opens /dev/stderr anew, as `echo x
>/dev/stderr` and `tee /dev/stderr` do, would open the file and cut it off. Opening a pipe anew cuts
nothing.

The copier has a session and an environment of its own and joins no cgroup: nothing that ends a container
ends it. It ends by itself when the last process that holds the pipe has ended, and outlives the daemon as
they do. As long as it lives the log is locked (flock): so everybody knows whether there is more to come.

It keeps the log within its bound: what is too old is punched out of the front, so offsets stay what they
were, and nobody who reads at that moment loses a byte or gets one twice. When the disk is full it reads on
and drops: a container must not wait for ever, or be killed, for its log. A line in the log says so.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.values import DEFAULT_PATH

#: What a log keeps of its end.
KEEP_BYTES = 64 << 20

# dd writes what each read gives at once; 32 reads make at most 16 MiB, after which the bound is looked at.
# Its report has a line `0+0 records in` at the end of the pipe, and begins its last one with the number of
# bytes. `command eval`: where no process can be made, dash would end, and take the container with it. Then
# the shell copies lines itself, slowly, as long as it has to: all but NUL bytes, and each only once it is
# complete. Each `$(…)` that fails costs it two descriptors: with none left it goes on with what it has.
_SCRIPT = r"""
keep=$1
trap '' HUP INT TERM PIPE XFSZ
newline='
'
exec 3>&1 4<&0 2>/dev/null
copy_lines() {
  exec <&4
  lines=0
  while [ "$((lines += 1))" -le 100 ]; do
    if ! IFS= read -r line; then
      printf %s "$line"
      return 1
    fi
    printf '%s\n' "$line" || lost=1
    total=$((total + ${#line} + 1))
  done
}
tell_lost() {
  printf '\n(output is missing here: the log could not be written)\n' && lost=
}
copy() {
  total=0 free=0 lost=
  while :; do
    if [ "$lost" ]; then tell_lost; fi
    report=
    if [ "$lost" ]; then
      command eval 'report=$(dd bs=524288 count=1 2>&1 <&4 >/dev/null)'
    else
      command eval 'report=$(dd bs=524288 count=32 2>&1 <&4 >&3)' || [ ! "$report" ] || lost=1
      case "$report" in *"records out$newline"*)
        bytes=${report##*records out$newline}
        total=$((total + ${bytes%% *}))
      esac
    fi
    if ! [ "$report" ] && ! copy_lines; then break; fi
    front=$(((total - keep) / 65536 * 65536))
    if [ "$front" -gt "$free" ] && command eval 'fallocate -p -o 0 -l "$front" /proc/self/fd/3'; then
      free=$front
    fi
    case "$newline$report" in *"${newline}0+0 records in$newline"*) break ;; esac
  done
  # Still no space: the sentence gets that of the log's oldest lines.
  if [ "$lost" ] && ! tell_lost && [ "$total" -gt 131072 ]; then
    command eval 'fallocate -p -o "$free" -l 65536 /proc/self/fd/3' && tell_lost
  fi
}
# Without it lines would be copied one by one for ever.
command -v dd >/dev/null || exit 127
copy &
"""

_PIPE_BYTES = 512 << 10
_POLL_S = 0.001
_POLL_MAX_S = 0.5
#: A copier ends a few milliseconds after the last writer: few waits have to look at its processes.
_LOOK_FROM_S = 0.05
#: Descriptors of the copier's shell and of its dd, see `_SCRIPT`.
_LOG_FD, _PIPE_FD = 3, 4
#: The first may have been at its last write; the second has read from its start on; the third comes after it.
_ENOUGH_READERS = 3
#: What it read last is written within microseconds, unless a disk keeps it: then it doesn't sleep lightly.
_ENOUGH_IDLE_LOOKS = 3


def start_copier(log_path: Path, keep_bytes: int = KEEP_BYTES, held: Sequence[int] = ()) -> int:
    """Makes the log and starts its copier; the descriptor to write to is the caller's. Takes milliseconds.

    Args:
        log_path: of the log.
        keep_bytes: how much of its end the log keeps.
        held: descriptors from 10 on that the copier keeps open, since it lives as long as the container.

    Raises:
        OSError: the log is there already or can't be made, or no process can be started.
    """
    log = os.open(
        log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(log, fcntl.LOCK_EX)
        output, write_end = os.pipe()
        with suppress(OSError):  # the user has many
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            # The shell goes at once and leaves the copier to init: it isn't ours to reap.
            subprocess.run(
                ["/bin/sh", "-c", _SCRIPT, "gpuyard-log", str(keep_bytes)],
                env={"PATH": f"{os.environ.get('PATH', '')}:{DEFAULT_PATH}".lstrip(":"), "LC_ALL": "C"},
                cwd="/",
                stdin=output,
                stdout=log,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=held,
                check=True,
            )
        except BaseException as error:
            os.close(write_end)
            if isinstance(error, subprocess.CalledProcessError):
                raise OSError(None, "its log's copier can't be started") from error
            raise
        finally:
            os.close(output)
    finally:
        os.close(log)
    return write_end


async def wait_until_copied(log_path: Path) -> bool:
    """Waits until all that was printed before is in the log, however long the copier takes.

    Returns:
        False when a process that escaped holds the pipe, maybe for ever. What it prints later still gets into
        the log.
    """
    pause_s, seen = _POLL_S, _CopierLooks(set())
    while _is_written(log_path):
        if pause_s >= _LOOK_FROM_S and await asyncio.to_thread(_is_drained, log_path, seen):
            return False
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _POLL_MAX_S)
    return True


@dataclass
class _CopierLooks:
    """What the looks at a copier have shown.

    Attributes:
        readers: the pids of those that read its pipe.
        idle: the one that slept beside an empty pipe at the last look.
        idle_looks: at how many looks in a row it did.
    """

    readers: set[int]
    idle: int | None = None
    idle_looks: int = 0

    def add(self, readers: set[int], idle: int | None) -> None:
        self.readers |= readers
        self.idle_looks = self.idle_looks + 1 if idle == self.idle else 1
        self.idle = idle


def _is_written(log_path: Path) -> bool:
    try:
        return journals.is_locked(log_path)
    except OSError as error:
        return procfs.is_shortage(error)  # else somebody removed or replaced it


def _is_drained(log_path: Path, seen: _CopierLooks) -> bool:
    """Whether what was in the pipe when this was first asked is in the log by now.

    It is when its reader sleeps beside an empty pipe at several looks in a row; or when several dd came one
    after another, as they do beside a writer that never pauses: each takes all that is there and writes it
    before the next one starts. A log without a copier gets nothing more.

    Args:
        log_path: of the log.
        seen: what was seen before; this adds to it.
    """
    try:
        copiers = _copiers(log_path)
        readers = {pid for pid, reads in copiers.items() if reads}
        seen.add(readers, next((pid for pid in readers if _unread_bytes(pid) == 0 and _sleeps(pid)), None))
    except OSError as error:
        if procfs.is_shortage(error):
            return False
        raise
    if seen.idle is not None and seen.idle_looks >= _ENOUGH_IDLE_LOOKS:
        return True
    # A copier that has just ended left no lock.
    return len(seen.readers) >= _ENOUGH_READERS if copiers else _is_written(log_path)


def _copiers(log_path: Path) -> dict[int, bool]:
    """The shell that copies into this log and its dd by pid, each with whether it reads the pipe now."""
    log, found, parents = os.path.realpath(log_path), {}, set[int]()
    for pid, stat in procfs.all_processes().items():
        if procfs.descriptor_target(pid, _LOG_FD) == log:
            pipe = procfs.descriptor_target(pid, _PIPE_FD)
            if pipe.startswith("pipe:"):
                found[pid] = procfs.descriptor_target(pid, 0) == pipe
                parents.add(stat.parent)
    return {pid: reads and pid not in parents for pid, reads in found.items()}


def _unread_bytes(pid: int) -> int | None:
    """What is in the copier's pipe; None when it is gone."""
    try:
        pipe = os.open(f"/proc/{pid}/fd/{_PIPE_FD}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(pipe)


def _sleeps(pid: int) -> bool:
    """Whether it waits for something; not for its turn, a disk, or somebody to let it go on."""
    stat = procfs.read_stat(pid)
    return stat is not None and stat.state == "S"
