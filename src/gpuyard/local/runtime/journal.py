"""The journal of one container start: an append-only file of JSON values, written by whoever knows.

1. the daemon, before it starts anything, on the disk: `{"boot-id": …, "name": …, "isolation": …,
   "started-at": …}`
2. the started shell, before it does anything: `{"stat": "<its line of /proc/self/stat>"}`
3. bubblewrap, before it runs the command: `{"child-pid": …, "pid-namespace": …}`
4. bubblewrap or the shell, when the command has ended: `{"exit-code": …}`
5. the daemon, when nothing is left of it: `{"exit": {…}}`

The file is locked (flock) through the very descriptor that the started process inherits, so the lock lasts
as long as that process. Whoever finds value 1 without 2 learns from the lock whether a
process is about to write 2 or none was ever started: a daemon may die at any point between.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from gpuyard import errors
from gpuyard.atomic_files import sync_folder
from gpuyard.local.disk import KEEP_SIZE, fallocate
from gpuyard.local.runtime.procfs import ProcessStat, parse_stat
from gpuyard.local.runtime.values import Exit, ExitReason
from gpuyard.regular_files import open_regular

log = logging.getLogger(__name__)

#: Files and folders of one start.
JOURNAL = "journal"
LOG = "log"
TMP = "tmp"
ENTRY = "entry.json"
STDIN = "stdin"

#: PID_MAX_LIMIT of Linux.
_MAX_PID = 1 << 22
_PROMISED_BYTES = 8192
#: A whole journal has a few KiB. Of a longer file so much of its start and of its end is read.
_MAX_READ_BYTES = 128 << 10
#: A torn value has two braces at most; each try costs the length of the line.
_MAX_TRIES_PER_LINE = 64
_DECODER = json.JSONDecoder()
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Journal:
    """What is known of one start; None for what isn't written yet.

    Attributes:
        boot_id, name, isolation, started_at: of the intent: which boot, which container, how, when.
        started: the process that the daemon started (the shell, or bubblewrap in its place).
        init_pid: process 1 of the container's PID namespace, by its pid on the host.
        pid_namespace: inode of that namespace.
        exit_code: of the user's command.
        exit: the end as it was last told.
        written_at: of the last value.
    """

    boot_id: str = ""
    name: str = ""
    isolation: str = ""
    started_at: datetime = _NEVER
    started: ProcessStat | None = None
    init_pid: int | None = None
    pid_namespace: int | None = None
    exit_code: int | None = None
    exit: Exit | None = None
    written_at: datetime = _NEVER


def create(path: Path, *, boot_id: str, name: str, isolation: str, started_at: datetime) -> int:
    """Makes the file, locks it and puts the intent to start on the disk. The descriptor is the caller's.

    Raises:
        ProcessError: it is there already, or can't be written.
    """
    try:
        journal = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(journal, fcntl.LOCK_EX)
            intent = {
                "boot-id": boot_id,
                "name": name,
                "isolation": isolation,
                "started-at": started_at.isoformat(),
            }
            _append(journal, intent)
            _promise(journal)
            os.fsync(journal)
            sync_folder(path.parent)
        except OSError:
            os.close(journal)
            path.unlink()
            raise
    except OSError as error:
        raise errors.ProcessError(
            f"can't write {path}: {error.strerror}", remedy="free space on its disk, or mend its permissions"
        ) from error
    return journal


def _promise(journal: int) -> None:
    """Has the file system keep the file's first block for the other values: an exit code must not be lost on
    a disk that was filled meanwhile. The size stays, since the others append."""
    try:
        fallocate(journal, KEEP_SIZE, 0, _PROMISED_BYTES)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise


def read(path: Path) -> Journal | None:
    """The journal, None when there is no file. What isn't as it was written is left out, as if the host had
    crashed before it was: torn lines, values of another type, the middle of a file that is too long.

    Raises:
        ProcessError: it can't be read.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            text = _text_of(file)
            written_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise errors.ProcessError(f"can't read {path}: {error.strerror}") from error
    members, faults = _members(text)
    for name, fault in faults.items():
        log.warning("%s: its %r can't be understood and is left out: %r", path, name, fault)
    return Journal(**{"started_at": written_at, **members}, written_at=written_at)


def _text_of(file: IO[bytes]) -> str:
    head = file.read(_MAX_READ_BYTES)
    file.seek(max(len(head), os.fstat(file.fileno()).st_size - _MAX_READ_BYTES))
    return b"\n".join((head, file.read(_MAX_READ_BYTES))).decode(errors="replace")


def is_locked(path: Path) -> bool:
    """Whether the started process still has the file open."""
    with os.fdopen(open_regular(path), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def append_exit(path: Path, exit_: Exit) -> None:
    """Keeps the end, so that a later look needs nothing else.

    Raises:
        ProcessError: it can't be written.
    """
    value = {
        "code": exit_.code,
        "reason": exit_.reason,
        "message": exit_.message,
        "finished-at": exit_.finished_at.isoformat(),
    }
    try:
        descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND)
        try:
            _append(descriptor, {"exit": value})
        finally:
            os.close(descriptor)
    except OSError as error:
        raise errors.ProcessError(f"can't write {path}: {error.strerror}") from error


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise TypeError(f"{raw!r} is no text")
    raw.encode()  # JSON can hold half a character, which nothing can be written with
    return raw


def _number(raw: object) -> int:
    """An inode, an exit code or clock ticks."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw < 1 << 63:
        raise TypeError(f"{raw!r} is no number of 63 bits")
    return raw


def _pid(raw: object) -> int:
    """Of a process that was started: never the host's process 1."""
    number = _number(raw)
    if not 1 < number <= _MAX_PID:
        raise ValueError(f"{number} is no pid")
    return number


def _moment(raw: object) -> datetime:
    return datetime.fromisoformat(_text(raw)).astimezone(UTC)


def _stat(raw: object) -> ProcessStat:
    stat = parse_stat(_text(raw))
    return replace(stat, pid=_pid(stat.pid), start_ticks=_number(stat.start_ticks))


def _exit(raw: Any) -> Exit:
    return Exit(
        code=_number(raw["code"]),
        reason=ExitReason(raw["reason"]),
        message=_text(raw["message"]),
        finished_at=_moment(raw["finished-at"]),
    )


def _append(descriptor: int, value: Mapping[str, Any]) -> None:
    """Writes one value. The newline before it ends a line that another writer could write only in part."""
    left = b"\n" + json.dumps(value).encode() + b"\n"
    # The kernel may take less than all, as on a disk that is almost full: then the next write says why.
    while left:
        left = left[os.write(descriptor, left) :]


#: Each member of a value, the field that it becomes, and what reads it or raises what is wrong with it.
_READERS: Mapping[str, tuple[str, Callable[[Any], object]]] = {
    "boot-id": ("boot_id", _text),
    "name": ("name", _text),
    "isolation": ("isolation", _text),
    "started-at": ("started_at", _moment),
    "stat": ("started", _stat),
    "child-pid": ("init_pid", _pid),
    "pid-namespace": ("pid_namespace", _number),
    "exit-code": ("exit_code", _number),
    "exit": ("exit", _exit),
}


def _members(text: str) -> tuple[dict[str, Any], dict[str, Exception]]:
    """Fields of a journal, each as it was last told, and by member what the last one that can't be read has.

    One that can't be read leaves an earlier one as it is.
    """
    fields: dict[str, Any] = {}
    faults: dict[str, Exception] = {}
    for name, raw in _told(text):
        if name not in _READERS:
            continue
        field, read_member = _READERS[name]
        try:
            fields[field] = read_member(raw)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            faults[name] = error
    return fields, faults


def _told(text: str) -> Iterator[tuple[str, Any]]:
    """All members of the JSON objects one after another; what isn't whole is skipped.

    No value has more than a line. Bubblewrap's may share one with the rest of a torn value.
    """
    for line in text.split("\n"):
        position = 0
        for _ in range(_MAX_TRIES_PER_LINE):
            if (position := line.find("{", position)) < 0:
                break
            try:
                value, position = _DECODER.raw_decode(line, position)
            except (ValueError, RecursionError):
                position += 1
            else:
                yield from value.items()
