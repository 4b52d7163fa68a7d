"""The user's cache of what builds fetch and learn: wheels, layers' digests, what bases hold.

Everything is named by a digest of what it depends on, so nothing in it is ever out of date: an entry is
complete or not there, and may be removed at any time.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from gpuyard import errors
from gpuyard.atomic_files import sweep, unfinished_file
from gpuyard.regular_files import read_regular

_DAY_S = 24 * 3600
#: Where files have no time of access, that of their birth counts, and entries are made anew more often.
_MOST_UNREAD_S = 30 * _DAY_S
#: A folder whose time is that of the last look for what nobody reads.
_SWEPT = "swept"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """`$GPUYARD_HOME/cache`, else `$XDG_CACHE_HOME/gpuyard`, else `~/.cache/gpuyard`."""
    if home := environ.get("GPUYARD_HOME"):
        return Path(home).expanduser().absolute() / "cache"
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".cache")
    return Path(base) / "gpuyard"


@dataclass(frozen=True)
class Cache:
    """Files under one folder, mode 0700; written beside their place and moved there when whole.

    Attributes:
        folder: all of it.
        variable: of the environment, that would put it elsewhere.
    """

    folder: Path
    variable: str = "XDG_CACHE_HOME"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Cache:
        """Where the environment has it."""
        return cls(cache_folder(environ), "GPUYARD_HOME" if environ.get("GPUYARD_HOME") else cls.variable)

    def path(self, kind: str, name: str) -> Path:
        """Where an entry is, whether or not it is there."""
        return self.folder / kind / name

    def read(self, kind: str, name: str) -> dict[str, Any] | None:
        """A small JSON entry; None when it isn't there or isn't readable as one."""
        try:
            found = orjson.loads(read_regular(self.path(kind, name)))
        except (OSError, orjson.JSONDecodeError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, kind: str, name: str, value: Mapping[str, Any]) -> None:
        """Keeps a small JSON entry; raises CacheError."""
        with self.new_file(kind, name) as file:
            file.write(orjson.dumps(value))

    @contextmanager
    def new_file(self, kind: str, name: str) -> Iterator[IO[bytes]]:
        """A file that gets its name when the block ends without an error; until then it has `file.name`.

        Raises:
            CacheError: the disk is full or the folder can't be written.
        """
        with self.reporting():
            folder = self.folder / kind
            # `parents=True` gives the mode to the last folder only.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            with unfinished_file(folder) as file:
                yield file
                file.flush()
                Path(file.name).replace(folder / name)

    def sweep(self, lasting: Collection[str] = (), now_s: float | None = None) -> None:
        """Removes what killed builds left, and once a day what no build has read for a while.

        Args:
            lasting: kinds whose entries stay.
            now_s: Unix time; the clock's unless given.
        """
        now_s = time.time() if now_s is None else now_s
        with suppress(OSError):
            kinds = list(self.folder.iterdir())
            for kind in kinds:
                sweep(kind)
            mark = self.folder / _SWEPT
            # One of the future is of a clock that was ahead.
            if mark.exists() and 0 <= now_s - mark.stat().st_mtime < _DAY_S:
                return
            mark.mkdir(mode=0o700, exist_ok=True)
            os.utime(mark, (now_s, now_s))
            for kind in kinds:
                if kind.name not in lasting:
                    with suppress(OSError):  # What isn't this user's keeps nothing else.
                        _drop_unread(kind, now_s - _MOST_UNREAD_S)

    @property
    def _move(self) -> str:
        if self.variable == "GPUYARD_HOME":
            # Another GPUYARD_HOME would be another yard.
            return f"make {self.folder} a link to a folder"
        return f"set {self.variable} to a folder"

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Turns failures of the file system into CacheError; raises others as they are."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise errors.CacheError(
                    f"the disk is full: the build's cache {self.folder} can't grow",
                    remedy=f"free some space, or {self._move} on a larger disk",
                ) from error
            other = self._of_another()
            mend = f"give it back (sudo chown -R {os.geteuid()} {other})" if other else "mend the folder"
            raise errors.CacheError(
                f"can't write the build's cache {self.folder}: {error.strerror or error}",
                remedy=f"{mend}, or {self._move} that you may write",
            ) from error

    def _of_another(self) -> Path | None:
        """The folder that another user made, such as root by a build with `sudo`."""
        for folder in (self.folder.parent, self.folder, *sorted(self.folder.glob("*"))):
            with suppress(OSError):
                if folder.stat().st_uid != os.geteuid():
                    return folder
        return None


def _drop_unread(kind: Path, before_s: float) -> None:
    with os.scandir(kind) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.is_file(follow_symlinks=False) and max(status.st_atime, status.st_mtime) < before_s:
                Path(entry.path).unlink(missing_ok=True)
