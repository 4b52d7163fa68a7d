"""Locks by which the yards of one machine never give out the same GPU: of two users, and of two homes of one.

Each GPU that a yard gives out has a file in a folder where all users may make files and nobody may remove
another's: `gpuyard.<UUID>.<random>`. It counts as long as somebody holds a lock on it, and the processes
beside a run hold it as the yard does (they inherit it), so it lasts as long as either. See ADR 38.

- Nobody can squat a name: each file has one of its own, and a file of another user never stands in the way.
- A file without its lock is a left-over, whatever is in it. The kernel drops the lock with its last holder.
- Only who may write the file can take that lock, so what it says of its yard is said by its owner.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import re
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.gpus.occupants import yard_text
from gpuyard.kube.timestamps import format_time
from gpuyard.regular_files import open_regular

#: The first that is root's, and in which everybody may make files and remove only their own. Every yard has
#: to choose the same, so nothing of its own user counts.
_PLACES = (Path("/run/lock"), Path("/dev/shm"), Path("/tmp"))
_EVERYBODYS_MODE = stat.S_ISVTX | 0o007
_PREFIX, _NEW = "gpuyard.", ".gpuyard-new."
_MAX_BYTES = 4096
_OLD_S = 3600.0
#: Of an open: it doesn't say whether the file counts.
_CANT_LOOK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_MAX_LENGTH = 200
#: Two yards that lock one GPU at the same moment both step back, and try again after a time of their own.
_TRIES, _STEP_BACK_S = 4, 0.02
#: The copier beside a container has uses for the first few of its own.
_LEAST_DESCRIPTOR = 10


@dataclass(frozen=True)
class YardHold:
    """The yard that a lock is of.

    Attributes:
        uid: the user's; the file's owner, so nobody can lie about it.
        home: the yard's folder, as it says itself.
        run: that holds the GPU.
        since: when it was taken, RFC 3339.
        yard: a digest of its folder's path, by which a yard knows its own locks: `home` is cut for people.
    """

    uid: int
    home: str
    run: str
    since: str
    yard: str

    @property
    def user(self) -> str:
        """The user's name; the number where it has none here."""
        return user_name(self.uid)


class GpuLocks:
    """The locks of one yard. Methods may block for some milliseconds; they belong to one thread at a time.

    Args:
        folder: see `find_lock_folder`.
        home: of the yard, which tells its locks from those of its user's other yards.
        clock: aware UTC now.
    """

    def __init__(self, folder: Path, home: Path, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._home = os.path.realpath(home)
        self._yard = yard_id(home)
        self._clock = clock
        self._descriptors: dict[str, int] = {}
        self._is_swept = False

    def take(self, gpu: str, run: str) -> None:
        """Locks a GPU, unless this object has it already.

        A lock that an earlier process of the same yard has left with a live run isn't in the way.

        Raises:
            GpuHeld: another yard has it.
            CheckpointError: the file can't be made, or those of others can't be looked at.
        """
        if gpu in self._descriptors:
            return
        try:
            self._take(gpu, run)
        except OSError as error:
            raise errors.CheckpointError(
                f"can't note in {self._folder} that {gpu} is taken: {error.strerror}",
                remedy="make room there; yards of this machine share that folder",
            ) from error

    def _take(self, gpu: str, run: str) -> None:
        self._remove_left_overs(gpu)
        for left in reversed(range(_TRIES)):
            # First the own lock and then the look at the others': of two that do so one sees the other.
            path, descriptor = self._make(gpu, run)
            try:
                other = self._other(gpu)
                if other is None:
                    self._descriptors[gpu] = descriptor
                    return
            finally:
                if self._descriptors.get(gpu) != descriptor:
                    _remove(path)
                    os.close(descriptor)
            if not left:
                raise errors.GpuHeld(gpu, yard_text(other.user, other.home, other.run, other.since))
            time.sleep(_STEP_BACK_S * os.urandom(1)[0] / 255)

    def release(self, gpu: str) -> None:
        """Lets others have it at once, also where a process that escaped its run still holds the lock."""
        # A file that can't be removed is a left-over once its lock is gone.
        with suppress(OSError):
            for path in self._files(gpu):
                if self._is_ours(path):
                    _remove(path)
        if (descriptor := self._descriptors.pop(gpu, None)) is not None:
            os.close(descriptor)

    def descriptors(self, gpus: Iterable[str]) -> list[int]:
        """Of the locks of these GPUs: a process that inherits them keeps the GPUs locked while it lives."""
        return [self._descriptors[gpu] for gpu in gpus if gpu in self._descriptors]

    def close(self) -> None:
        """Leaves the locks to the processes that inherited them."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _make(self, gpu: str, run: str) -> tuple[Path, int]:
        """A file that is locked before anybody can see it by its name."""
        new = self._folder / f"{_NEW}{os.urandom(8).hex()}"
        path = self._folder / f"{_stem(gpu)}{os.urandom(8).hex()}"
        text = json.dumps(
            {
                "home": _printable(self._home),
                "run": _printable(run),
                "since": format_time(self._clock()),
                "yard": self._yard,
            },
            ensure_ascii=False,
        )
        file = open_regular(new, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            descriptor = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _LEAST_DESCRIPTOR)
        except BaseException:
            _remove(new)
            raise
        finally:
            os.close(file)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as out:
                out.write(text.encode())
            os.fchmod(descriptor, 0o644)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole_file_lock(fcntl.F_WRLCK))
            new.rename(path)
        except BaseException:
            os.close(descriptor)
            _remove(new)
            raise
        return path, descriptor

    def _other(self, gpu: str) -> YardHold | None:
        holds = (_hold(path) for path in self._files(gpu))
        return next((hold for hold in holds if hold and not self.is_own(hold)), None)

    def is_own(self, hold: YardHold) -> bool:
        """Whether it is this yard's."""
        return (hold.uid, hold.yard) == (os.geteuid(), self._yard)

    def _is_ours(self, path: Path) -> bool:
        """Whether a file is this yard's, locked or not."""
        hold = _hold(path, is_locked=lambda descriptor: True)
        return hold is not None and self.is_own(hold)

    def _remove_left_overs(self, gpu: str) -> None:
        """Files of this user's that nobody holds any more: they were locked before they had their names.

        The first time of all GPUs: those that yards were killed with may never be there again.
        """
        files = self._files(gpu) if self._is_swept else [*_entries(self._folder), *_old_new(self._folder)]
        self._is_swept = True
        for path in files:
            with suppress(OSError):
                if path.lstat().st_uid == os.geteuid() and _hold(path) is None:
                    path.unlink(missing_ok=True)

    def _files(self, gpu: str) -> list[Path]:
        stem = _stem(gpu)
        return [path for path in _entries(self._folder) if path.name.startswith(stem)]


def find_lock_folder(places: Iterable[Path] = _PLACES, root_uid: int = 0) -> Path | None:
    """The folder that all yards of this machine share; None where there is none.

    Args:
        places: in the order in which they are looked at.
        root_uid: whose it has to be.
    """
    for place in places:
        with suppress(OSError):
            found = place.lstat()
            if (
                stat.S_ISDIR(found.st_mode)
                and found.st_uid == root_uid
                and found.st_mode & _EVERYBODYS_MODE == _EVERYBODYS_MODE
            ):
                return place
    return None


def gpu_of(device_id: str) -> str:
    """The GPU, or the part of one, behind a device's id: replicas of a shared one are `UUID::3`."""
    return device_id.partition("::")[0]


def yard_holds(folder: Path, gpus: Iterable[str]) -> Mapping[str, tuple[YardHold, ...]]:
    """Which of these GPUs yards hold now, this user's included; without those that nobody holds.

    Of each other user one lock on a GPU counts: who makes thousands has no more, and costs no more.

    Raises:
        OSError: the folder, or a file in it, can't be looked at now.
    """
    stems = {_stem(gpu): gpu for gpu in gpus}
    found: dict[str, tuple[YardHold, ...]] = {}
    for path in _entries(folder):
        gpu = stems.get(path.name.rpartition(".")[0] + ".")
        if gpu is None or _owner(path) in {hold.uid for hold in found.get(gpu, ())} - {os.geteuid()}:
            continue
        if (hold := _hold(path)) is not None:
            found[gpu] = (*found.get(gpu, ()), hold)
    return found


def yard_id(home: Path) -> str:
    """A digest of the path of a yard's folder."""
    import hashlib  # It brings OpenSSL, which takes memory that an agent doesn't have.

    return hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()


def user_name(uid: int) -> str:
    """The name of a user; the number where it has none here."""
    try:
        # Bytes that are no UTF-8, as some directories have, would keep the whole node from being marked.
        return _printable(pwd.getpwuid(uid).pw_name) or str(uid)
    except KeyError:
        return str(uid)


def _stem(gpu: str) -> str:
    return f"{_PREFIX}{re.sub(r'[^A-Za-z0-9-]', '_', gpu)[:_MAX_LENGTH]}."


def _entries(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX)]


def _old_new(folder: Path) -> list[Path]:
    """Files that got no name of a GPU, and won't any more: who makes one needs it for a moment."""
    before_s = time.time() - _OLD_S
    old = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.name.startswith(_NEW) and entry.stat(follow_symlinks=False).st_mtime < before_s:
                    old.append(Path(entry.path))
    return old


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _is_locked(descriptor: int) -> bool:
    """Whether a process holds a write lock, for which it must have been allowed to write the file."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, whole_file_lock(fcntl.F_RDLCK))
    return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)


def whole_file_lock(kind: int) -> bytes:
    """A `struct flock` for F_OFD_SETLK, see fcntl(2): F_RDLCK, F_WRLCK or F_UNLCK."""
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 0, 0)


def _hold(path: Path, is_locked: Callable[[int], bool] = _is_locked) -> YardHold | None:
    """What a lock file says; None for one that doesn't count. One that is locked counts whatever it says."""
    try:
        descriptor = open_regular(path)
    except OSError as error:
        if error.errno in _CANT_LOOK:
            raise
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not is_locked(file.fileno()):
            return None
        uid = os.fstat(file.fileno()).st_uid
        text = file.read(_MAX_BYTES)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    told = raw if isinstance(raw, dict) else {}
    return YardHold(uid, *(_printable(told.get(name)) for name in ("home", "run", "since", "yard")))


def _printable(raw: Any) -> str:
    """For terminals; another user may have written it. It is short enough for a lock file, too."""
    # What can't be encoded isn't printable.
    return "".join(filter(str.isprintable, str(raw or "")))[:_MAX_LENGTH]
