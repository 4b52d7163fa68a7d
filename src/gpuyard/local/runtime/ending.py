"""How a container ended, from what is known of it."""

from __future__ import annotations

import os
import re
import signal
from datetime import datetime
from pathlib import Path

from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.values import Exit, ExitReason
from gpuyard.regular_files import open_regular

_LAST_WORDS_BYTES = 1024
#: Bubblewrap copies all mounts of the host, and then changes each: one whose folder is removed in between, as
#: by podman when any container ends, ends it.
_MOUNT_VANISHED = re.compile(
    r"bwrap: Can't bind mount /oldroot/ on /newroot/: .*\"/newroot/.*\": No such file or directory"
)
#: As containerd has it for a container that was lost with its host.
REBOOTED_CODE = 255
KILLED_CODE = 128 + signal.SIGKILL


def conclude(
    journal: Journal,
    log_path: Path,
    *,
    signalled: signal.Signals | None,
    out_of_memory: bool,
    now: datetime,
) -> Exit:
    """The end of a container of which nothing is alive.

    Args:
        journal: its last state.
        log_path: where bubblewrap or the shell say why they couldn't start the command.
        signalled: the last signal that we sent, None when it ended by itself.
        out_of_memory: whether the kernel killed anything of it for lack of memory.
        now: the end, where the journal doesn't tell.
    """
    code = journal.exit_code
    if code is not None:
        reason = ExitReason.COMPLETED if code == 0 else ExitReason.ERROR
        if code != 0 and out_of_memory:
            reason = ExitReason.OOM_KILLED
        # The journal's last line is the exit code, so this is when it ended, however late we look; the
        # file's time is up to a tick of the kernel behind the clock.
        return Exit(code, reason, max(journal.written_at, journal.started_at))
    if out_of_memory:
        return Exit(KILLED_CODE, ExitReason.OOM_KILLED, now)
    if signalled is not None:
        return Exit(128 + signalled, ExitReason.ERROR, now)
    last_words = last_line(log_path)
    if last_words.startswith("bwrap: ") or journal.started is None:
        return Exit(_start_error_code(last_words), ExitReason.START_ERROR, now, last_words)
    return Exit(
        KILLED_CODE,
        ExitReason.UNKNOWN,
        now,
        "the process that keeps the exit code was killed by somebody else",
    )


def is_by_chance(message: str) -> bool:
    """Whether bubblewrap says that the host changed while it looked: the same start may go well now."""
    return bool(_MOUNT_VANISHED.search(message))


def rebooted(journal: Journal) -> Exit:
    """The end of a container that ran when the host went down."""
    return Exit(
        REBOOTED_CODE,
        ExitReason.NODE_REBOOTED,
        journal.written_at,
        "the host was restarted while the container ran",
    )


def last_line(log_path: Path) -> str:
    """The last words in a log, empty when it has none."""
    try:
        with os.fdopen(open_regular(log_path), "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _start_error_code(message: str) -> int:
    """As a shell would: 127 no such program, 126 not executable."""
    if re.search(r"execvp .*: No such file or directory$", message):
        return 127
    if re.search(r"execvp .*: Permission denied$", message):
        return 126
    return 128
