"""What large files hold, as digests that are remembered: a build needn't read again what didn't change.

A file is known by its path, size, times and inode. Times tell of a change only where the clock moved
between two changes, so a digest is remembered only when nothing could change the file later and leave
its ctime as it was (git calls the others racy):

- The file system's own clock, by a file made beside it, is past the file's ctime before it is read. It may
  be another clock than this machine's, and coarser; and it keeps no ctime at all on some.
- Pages that a program wrote through a mapping are on the disk before it is read: the first write to a page
  after that moves ctime, and those to a page that waits for the disk don't.
- The state is the same after it was read as before.

Where one of these isn't so, the digest is right for this build, and the next one reads the file again. When
this machine's clock was set back, all is forgotten.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gpuyard import errors
from gpuyard.building.workdir.file_state import FileState, file_system_time_ns, path_key
from gpuyard.building.workdir.walk import changed
from gpuyard.images.cache import Cache
from gpuyard.images.layers import PIECE
from gpuyard.regular_files import open_regular

APPLICATION = "application"

_KIND = "file-digests"


@dataclass(frozen=True)
class FileDigests:
    """The digests of files of one folder.

    Attributes:
        root: the folder; paths may lead out of it.
        cache: where they are remembered.
        progress: told the bytes read so far, and those of all files that have to be read.
        purpose: who asks; each is remembered the files that it asked for last.
        now_ns: this machine's time.
        file_system_time_ns: of the file system that has a folder (see the function).
    """

    root: Path
    cache: Cache
    progress: Callable[[int, int], None]
    purpose: str = APPLICATION
    now_ns: Callable[[], int] = time.time_ns
    file_system_time_ns: Callable[[Path, int], int | None] = file_system_time_ns

    async def digests(self, sizes: Mapping[str, int]) -> dict[str, str]:
        """SHA-256 in hexadecimal digits by path relative to the folder.

        Args:
            sizes: of the files, as the rest of the build believes.

        Raises:
            BuildError: one can't be read, or changes.
            CacheError: they can't be remembered.
        """
        remembered = self._remembered()
        kept = {path: entry for path in sizes if (entry := self._kept(path, remembered)) is not None}
        found = {path: entry[1] for path, entry in kept.items()}
        missing = {path: size for path, size in sizes.items() if path not in found}
        if missing:
            read = await asyncio.to_thread(self._read_all, missing)
            found |= {path: digest for path, (_, digest, _) in read.items()}
            kept |= {path: (state, digest) for path, (state, digest, settled) in read.items() if settled}
        files = {path_key(path): [*state, digest] for path, (state, digest) in kept.items()}
        if files != remembered:
            self.cache.write(_KIND, self._entry, {"at_ns": self.now_ns(), "files": files})
        return {path: found[path] for path in sizes}

    @property
    def _entry(self) -> str:
        return f"{self.purpose}-{hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()}.json"

    def _remembered(self) -> dict[str, Any]:
        kept = self.cache.read(_KIND, self._entry) or {}
        at_ns, files = kept.get("at_ns"), kept.get("files")
        if not isinstance(at_ns, int) or not isinstance(files, dict) or self.now_ns() < at_ns:
            return {}
        return files

    def _kept(self, path: str, remembered: Mapping[str, Any]) -> tuple[FileState, str] | None:
        match remembered.get(path_key(path)):
            case [*state, str(digest)]:
                # Opened, since a network's file system asks its server then, and may not for a stat alone.
                with self._open(path) as file:
                    now = FileState.of(os.fstat(file))
                return (now, digest) if [*now] == state else None
        return None

    def _read_all(self, sizes: Mapping[str, int]) -> dict[str, tuple[FileState, str, bool]]:
        done, total = 0, sum(sizes.values())

        def count(size: int) -> None:
            nonlocal done
            done += size
            self.progress(done, max(done, total))

        return {path: self._digest(path, size, count) for path, size in sizes.items()}

    def _digest(self, path: str, size: int, count: Callable[[int], None]) -> tuple[FileState, str, bool]:
        """The file's state and digest, and whether the state tells of every later change."""
        digest = hashlib.sha256()
        with self._open(path) as file:
            state = FileState.of(os.fstat(file))
            settled = self._is_settled(path, file)
            while piece := os.read(file, PIECE):
                digest.update(piece)
                count(len(piece))
            if state.size != size or FileState.of(os.fstat(file)) != state:
                raise changed(self.root / path)
        return state, digest.hexdigest(), settled

    def _is_settled(self, path: str, file: int) -> bool:
        found = os.fstat(file)
        # Where the file's own folder can't be written, one above it may be, in the same file system.
        folders = (self.root / parent for parent in PurePosixPath(path).parents)
        times = (self.file_system_time_ns(folder, found.st_dev) for folder in folders)
        now_ns = next((time_ns for time_ns in times if time_ns is not None), None)
        if now_ns is None or now_ns <= found.st_ctime_ns:
            return False
        try:
            os.fdatasync(file)
        except OSError:
            return False
        return True

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        """A descriptor of the file; failures are errors of the build."""
        place = self.root / path
        try:
            file = open_regular(place)
            try:
                yield file
            finally:
                os.close(file)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EIO):
                leave_out = ", or list it in .gpuyardignore" if self.purpose == APPLICATION else ""
                raise errors.BuildError(
                    f"can't read {place}: {error.strerror}", remedy=f"mend its permissions{leave_out}"
                ) from error
            raise changed(place) from error
