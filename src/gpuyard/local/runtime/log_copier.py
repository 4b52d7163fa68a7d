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
from contextlib import suppress
from pathlib import Path

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.process.programs import DEFAULT_PATH

#: What a log keeps of its end.
KEEP_BYTES = 64 << 20

# dd writes what each read gives at once; 32 reads make at most 16 MiB, after which the bound is looked at.
# Its report has a line `0+0 records in` at the end of the pipe, and begins its last one with the number of
# bytes. `command eval`: where no process can be made, dash would end, and take the container with it. Each
# `$(…)` that fails so costs it two descriptors, so it waits for a `sleep` that can be started.
_SCRIPT = r"""
keep=$1
trap '' HUP INT TERM PIPE XFSZ
newline='
'
exec 3>&1 4<&0 >/dev/null 2>&1
copy() {
  total=0 free=0 lost=
  while :; do
    if [ "$lost" ] && printf '\n(output is missing here: the log could not be written)\n' >&3; then lost=; fi
    report=
    if [ "$lost" ]; then
      command eval 'report=$(dd bs=524288 count=1 2>&1 <&4 >/dev/null)'
    elif command eval 'report=$(dd bs=524288 count=32 2>&1 <&4 >&3)'; then
      bytes=${report##*records out$newline}
      total=$((total + ${bytes%% *}))
    elif [ "$report" ]; then
      lost=1
    fi
    front=$(((total - keep) / 65536 * 65536))
    if [ "$front" -gt "$free" ] && command eval 'fallocate -p -o 0 -l "$front" /proc/self/fd/3'; then
      free=$front
    fi
    case "$newline$report" in
      "$newline") until command eval 'sleep 1'; do :; done ;;
      *"${newline}0+0 records in$newline"*) break ;;
    esac
  done
}
# Without them the loop would never see the end of the pipe.
command -v dd && command -v sleep || exit 127
copy &
"""

_PIPE_BYTES = 512 << 10
_POLL_S = 0.001
_POLL_MAX_S = 0.05
#: A process that escaped may hold the pipe for ever. What it prints later still gets into the log.
_IDLE_S = 2.0


def start_copier(log_path: Path, keep_bytes: int = KEEP_BYTES) -> int:
    """Makes the log and starts its copier; the descriptor to write to is the caller's. Takes milliseconds.

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
    """Waits until all that was printed is in the log.

    Returns:
        False when a process holds the pipe and prints nothing more.
    """
    loop = asyncio.get_running_loop()
    size, give_up_at, pause_s = -1, 0.0, _POLL_S
    while (now_size := _size_while_written(log_path)) is not None:
        if now_size != size:
            size, give_up_at = now_size, loop.time() + _IDLE_S
        elif loop.time() >= give_up_at:
            return False
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _POLL_MAX_S)
    return True


def _size_while_written(log_path: Path) -> int | None:
    try:
        return log_path.lstat().st_size if journals.is_locked(log_path) else None
    except OSError:
        return None  # somebody removed or replaced it
