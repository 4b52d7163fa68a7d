"""The file system that an image's layers make together, as far as somebody wants to know it.

A base has hundreds of thousands of files; kept are links, Python interpreters and the few files whose
content a caller asks for.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Self, TypeAlias, cast

from gpuyard import errors

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40
_KEPT = re.compile(r"(?:.*/)?(?:python3?(?:\.\d+)?|ld-musl-[^/]+\.so\.1|pyvenv\.cfg)")


#: An extended header holds names, attributes and access lists: a larger one only fills the memory.
_MOST_HEADER = 1 << 20
_EXTENDED = (*(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE), *(b"L", b"K"))
#: tarfile asks a few times at a tar's end, and for ever when a header says that there is more.
_MOST_EMPTY = 64


_BROKEN = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]


class _Header(tarfile.TarInfo):
    """A header that is refused where `TarInfo` would believe it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """See `TarInfo.frombuf`."""
        try:
            found = super().frombuf(buf, encoding, errors)
        except _BROKEN as error:
            # tarfile takes such a header for the end of the archive, unless it is the first.
            raise _damaged(str(error)) from error
        if found.size < 0 or (found.type in _EXTENDED and found.size > _MOST_HEADER):
            raise _damaged(f"{found.name!r} says that it has {found.size} bytes")
        return found


class _TarStream:
    """A tar's stream that ends."""

    def __init__(self, tar: IO[bytes]) -> None:
        self._tar = tar
        self._empty = 0

    def read(self, size: int) -> bytes:
        piece = self._tar.read(size)
        if not piece:
            self._empty += 1
            if self._empty > _MOST_EMPTY:
                raise _damaged("it ends in the middle of a file")
        return piece


def _damaged(why: str) -> errors.ImageDamaged:
    return errors.ImageDamaged(f"a layer is not a tar archive: {why}", remedy="make the image again")


@dataclass(frozen=True)
class Member:
    """A regular file met while reading: its path without a leading slash, and its size in bytes."""

    path: str
    size: int


#: Says what to keep of a file and under which path, or None.
Keep: TypeAlias = Callable[[Member, IO[bytes]], "tuple[str, bytes] | None"]


@dataclass
class Overlay:
    """Paths have no leading slash. `links` and `files` are what is kept."""

    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes | None] = field(default_factory=dict)

    def apply(self, tar: IO[bytes], keep: Keep) -> None:
        """Lays one layer over what is there.

        Raises:
            ImageDamaged: the stream isn't a tar.
        """
        upper = Overlay()
        gone: list[str] = []
        try:
            reading = cast("IO[bytes]", _TarStream(tar))
            with tarfile.open(fileobj=reading, mode="r|", bufsize=1 << 18, tarinfo=_Header) as archive:
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined] # Else it remembers every file of the base.
                    path = posixpath.normpath("/" + info.name).strip("/")
                    folder, _, name = path.rpartition("/")
                    if name == _OPAQUE:
                        gone.append(folder + "/")
                    elif name.startswith(_WHITEOUT):
                        gone.append(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
                    else:
                        self._take(upper, archive, info, path, keep)
        except (tarfile.TarError, ValueError, IndexError, OverflowError) as error:
            # The others are the tarfile module's own slips on sparse files that say nonsense.
            raise errors.ImageDamaged(f"a layer is not a tar archive: {error}") from error
        self._remove(gone)
        self.links |= upper.links
        self.files |= upper.files

    def _take(
        self, upper: Overlay, archive: tarfile.TarFile, info: tarfile.TarInfo, path: str, keep: Keep
    ) -> None:
        if info.isdir():
            self.links.pop(path, None)
            return
        self.links.pop(path, None)
        self.files.pop(path, None)
        if info.issym():
            upper.links[path] = info.linkname
            return
        if info.islnk():
            target = posixpath.normpath("/" + info.linkname).strip("/")
            for layer in (upper, self):
                if target in layer.files:
                    upper.files[path] = layer.files[target]
                    return
        if _KEPT.fullmatch(path):
            upper.files[path] = None
        if info.isreg() and (content := archive.extractfile(info)) is not None:
            kept = keep(Member(path, info.size), content)
            if kept is not None:
                upper.files[kept[0]] = kept[1]

    def _remove(self, gone: list[str]) -> None:
        """Drops what whiteouts name: a path with all below it, or (ending in a slash) only what is below."""
        if not gone:
            return
        exact = {path for path in gone if not path.endswith("/")}
        below = tuple(path.rstrip("/") + "/" for path in gone)
        for kept in (self.links, self.files):
            for path in [path for path in kept if path in exact or path.startswith(below)]:
                del kept[path]

    def resolve(self, path: str) -> str | None:
        """The kept file that a path leads to through links, or None."""
        for _ in range(_MOST_LINKS):
            path = posixpath.normpath("/" + path).strip("/")
            step = self._follow(path)
            if step is None:
                return path if path in self.files else None
            path = step
        return None

    def _follow(self, path: str) -> str | None:
        """The path with its first link replaced; None without one."""
        parts = path.split("/")
        for index in range(1, len(parts) + 1):
            head = "/".join(parts[:index])
            if (target := self.links.get(head)) is not None:
                return posixpath.join("/", posixpath.dirname(head), target, *parts[index:])
        return None

    def names_in(self, folder: str) -> list[str]:
        """Names of kept files directly in a folder, sorted; the folder may be a link."""
        inside = folder
        for _ in range(_MOST_LINKS):
            step = self._follow(posixpath.normpath("/" + inside).strip("/"))
            if step is None:
                break
            inside = step
        prefix = posixpath.normpath("/" + inside).strip("/") + "/"
        return sorted(path[len(prefix) :] for path in self.files if path.rpartition("/")[0] + "/" == prefix)

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Kept files with their content, by path."""
        return ((path, content) for path, content in sorted(self.files.items()) if content is not None)
