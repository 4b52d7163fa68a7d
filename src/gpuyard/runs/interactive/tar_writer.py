"""An archive of a file or a folder of this machine, piece by piece, for tar in a pod."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from gpuyard import errors
from gpuyard.regular_files import open_regular

_PIECE_BYTES = 1 << 17
_PERMISSIONS = 0o777
#: What the archive's one file or folder is called in it, and the empty file that is its last member: without
#: it the archive was cut, which not every tar notices.
NAME, END = "it", "end"


class TarWriter:
    """Iterates over the pieces.

    Attributes:
        size: of all files together.
        done_bytes: of files, so far.
        left_out: names that aren't in it, with the reason.
    """

    def __init__(self, source: Path) -> None:
        """Raises OSError when it can't be read."""
        self.done_bytes = 0
        self.left_out: list[str] = []
        self.is_folder = source.is_dir()
        self._members = list(_members(source))
        self.size = sum(found.st_size for _, _, found in self._members if stat.S_ISREG(found.st_mode))

    def pieces(self) -> Iterator[bytes]:
        """Header, content, header, content.

        Raises:
            GpuyardError: a file changed meanwhile.
            OSError: one can't be read.
        """
        for path, name, found in self._members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = found.st_mode & _PERMISSIONS, int(found.st_mtime)
            if stat.S_ISDIR(found.st_mode):
                info.type = tarfile.DIRTYPE
            elif stat.S_ISLNK(found.st_mode):
                info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
            elif stat.S_ISREG(found.st_mode):
                info.size = found.st_size
            else:
                self.left_out.append(f"{path}: neither file, folder nor link")
                continue
            yield _header(info)
            if info.size:
                yield from self._content(path, info.size)
        yield _header(tarfile.TarInfo(END)) + bytes(2 * tarfile.BLOCKSIZE)

    def _content(self, path: Path, size: int) -> Iterator[bytes]:
        file = open_regular(path, follow_links=path == self._members[0][0])
        try:
            left = size
            while left:
                piece = os.read(file, min(left, _PIECE_BYTES))
                if not piece:
                    raise _changed(path)
                left -= len(piece)
                self.done_bytes += len(piece)
                yield piece
        finally:
            os.close(file)
        yield bytes(-size % tarfile.BLOCKSIZE)


def _members(source: Path) -> Iterator[tuple[Path, str, os.stat_result]]:
    """Path, name in the archive and what it is, folders before what is in them."""
    yield source, NAME, source.stat()
    if not source.is_dir():
        return

    def refuse(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(source, onerror=refuse):
        for name in sorted((*folders, *files)):
            path = Path(folder, name)
            yield path, f"{NAME}/{path.relative_to(source)}", path.lstat()


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _changed(path: Path) -> errors.GpuyardError:
    return errors.GpuyardError(f"{path} became shorter while it was copied", remedy="copy it again")
