"""The file system that an image's layers make together, as far as somebody wants to know it.

A base has hundreds of thousands of files; kept are links, folders, Python interpreters and the few files
of which a caller asks for something. Of the others only a number is kept, eight bytes for each.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Self, TypeAlias, cast

from gpuyard import errors
from gpuyard.elf import Elf
from gpuyard.images.contents.folders import A_CIRCLE, A_FILE, PLAIN, FolderMode, Folders, is_text, nearest
from gpuyard.images.layers import WHITEOUT

_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40
#: What somebody may take for a folder to write into: not far from the root, and not among the system's.
_SHALLOW = re.compile(r"(?!(?:usr|etc|proc|sys|dev|run|boot|s?bin|lib[^/]*)/)[^/]+(?:/[^/]+){0,3}")
_KEPT = re.compile(rf"(?:.*/)?(?:python3?(?:\.\d+)?|ld-musl-[^/]+\.so\.1|pyvenv\.cfg)|{_SHALLOW.pattern}")


#: An extended header holds names, attributes and access lists: a larger one only fills the memory.
_MOST_HEADER = 1 << 20
_EXTENDED = (*(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE), *(b"L", b"K"))
#: tarfile copies what it has read ahead with each header.
_READ_AHEAD = 1 << 15
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
            raise ValueError(str(error)) from error
        if found.size < 0 or (found.type in _EXTENDED and found.size > _MOST_HEADER):
            raise ValueError(f"{found.name!r} says that it has {found.size} bytes")
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
                raise ValueError("it ends in the middle of a file")
        return piece


@contextmanager
def open_layer(tar: IO[bytes], what: str = "a layer") -> Iterator[tarfile.TarFile]:
    """A tar that somebody else made, to be read once from the beginning on; what is wrong is ImageDamaged."""
    try:
        reading = cast("IO[bytes]", _TarStream(tar))
        with tarfile.open(fileobj=reading, mode="r|", bufsize=_READ_AHEAD, tarinfo=_Header) as archive:
            yield archive
    except (tarfile.TarError, ValueError, IndexError, OverflowError) as error:
        # The others are the tarfile module's own slips on sparse files that say nonsense.
        raise errors.ImageDamaged(
            f"{what} is not a tar archive: {error}", remedy="make the image again"
        ) from error


def layer_members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Each member with its path, without a leading slash."""
    for info in archive:
        archive.members = []  # type: ignore[attr-defined] # Else it remembers every file of the layer.
        yield info, posixpath.normpath("/" + info.name).strip("/")


def whiteout(path: str) -> str | None:
    """What a member takes away of the layers below: a path with all below it, or (ending in a slash) only
    what is below. None for a member that is there."""
    folder, _, name = path.rpartition("/")
    if name == _OPAQUE:
        return folder + "/"
    return posixpath.join(folder, name.removeprefix(WHITEOUT)) if name.startswith(WHITEOUT) else None


@dataclass(frozen=True)
class Member:
    """A regular file met while reading: its path without a leading slash, and its size in bytes."""

    path: str
    size: int


#: What is kept of a file: its content, or what it says to the loader.
Kept: TypeAlias = "bytes | Elf"
#: Says what to keep of a file, and under which paths.
Keep: TypeAlias = Callable[[Member, IO[bytes]], "Iterator[tuple[str, Kept]]"]


@dataclass(frozen=True)
class _LayerFiles:
    """One layer's files, as numbers for their paths, and what the layer takes away of those below it."""

    paths: array[int]
    gone: tuple[str, ...]


@dataclass
class Overlay:
    """Paths have no leading slash. `links`, `folders` and `files` are what is kept.

    A folder has no mode where no layer lists it, but only what is in it. `modes` has those of some files.
    """

    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, FolderMode | None] = field(default_factory=dict)
    files: dict[str, Kept | None] = field(default_factory=dict)
    modes: dict[str, FolderMode] = field(default_factory=dict)
    _layers: list[_LayerFiles] = field(default_factory=list)

    def apply(self, tar: IO[bytes], keep: Keep) -> None:
        """Lays one layer over what is there.

        Raises:
            ImageDamaged: the stream isn't a tar.
        """
        upper = Overlay()
        paths = array("q")
        gone: list[str] = []
        with open_layer(tar) as archive:
            for info, path in layer_members(archive):
                if (taken := whiteout(path)) is not None:
                    gone.append(taken)
                elif info.isdir():
                    upper.add_folder(path, info)
                else:
                    if path in self.folders:
                        gone.append(path)
                    upper.add_parents(path.rpartition("/")[0])
                    if not info.issym():
                        paths.append(hash(path))
                    self._take(upper, archive, info, path, keep)
        self._lay(upper, gone)
        self._layers.append(_LayerFiles(paths, tuple(gone)))

    def _lay(self, upper: Overlay, gone: list[str]) -> None:
        self._remove(gone)
        for path, mode in upper.folders.items():
            if mode:
                self.links.pop(path, None)
                self.files.pop(path, None)
            if mode or path not in self.folders:
                self.folders[path] = mode
        self.links |= upper.links
        self.files |= upper.files
        self.modes |= upper.modes

    def add_folder(self, path: str, info: tarfile.TarInfo) -> None:
        """Notes a folder as a layer has it."""
        self.links.pop(path, None)
        self.folders[path] = FolderMode(info.mode & 0o7777, info.uid, info.gid)
        self.add_parents(path.rpartition("/")[0])

    def add_parents(self, folder: str) -> None:
        """Notes a folder that something lies in, with the folders that lead to it."""
        while folder and folder not in self.folders and folder not in self.links:
            self.folders[folder] = None
            folder = folder.rpartition("/")[0]

    def _take(
        self, upper: Overlay, archive: tarfile.TarFile, info: tarfile.TarInfo, path: str, keep: Keep
    ) -> None:
        self.links.pop(path, None)
        self.files.pop(path, None)
        if info.issym():
            upper.links[path] = info.linkname
            return
        if info.islnk():
            target = posixpath.normpath("/" + info.linkname).strip("/")
            for layer in (upper, self):
                if target in layer.links:
                    upper.links[path] = layer.links[target]
                    return
                if target in layer.files:
                    upper.files[path] = layer.files[target]
                    if mode := layer.modes.get(target):
                        upper.modes[path] = mode
                    return
        if _KEPT.fullmatch(path):
            upper.files[path] = None
            upper.modes[path] = FolderMode(info.mode & 0o7777, info.uid, info.gid)
        if info.isreg() and (content := archive.extractfile(info)) is not None:
            upper.files.update(keep(Member(path, info.size), content))

    def _remove(self, gone: list[str]) -> None:
        """Drops what whiteouts name: a path with all below it, or (ending in a slash) only what is below."""
        if not gone:
            return
        exact, below = _exact_and_below(gone)
        kept: dict[str, str] | dict[str, FolderMode | None] | dict[str, Kept | None]
        for kept in (self.links, self.folders, self.files):
            for path in [path for path in kept if path in exact or path.startswith(below)]:
                del kept[path]

    def real_path(self, path: str) -> str | None:
        """Where a path leads through links; None where they go in a circle."""
        waiting, found, links = path.split("/")[::-1], "", 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                found = found.rpartition("/")[0]
            elif part not in ("", "."):
                step = f"{found}/{part}" if found else part
                if (target := self.links.get(step)) is None:
                    found = step
                    continue
                links += 1
                if links > _MOST_LINKS:
                    return None
                if target.startswith("/"):
                    found = ""
                waiting += target.split("/")[::-1]
        return found

    def resolve(self, path: str) -> str | None:
        """The kept file that a path leads to through links, or None."""
        found = self.real_path(path)
        return found if found in self.files else None

    def names_in(self, folder: str) -> list[str]:
        """Names of kept files directly in a folder, sorted; the folder may be a link."""
        inside = self.real_path(folder)
        return sorted(name for parent, _, name in (p.rpartition("/") for p in self.files) if parent == inside)

    def placing(self) -> Folders:
        """What a build must know to lay files over these."""
        links: dict[str, str] = {}
        obstacles = {path: A_FILE for path in self.files if _SHALLOW.fullmatch(path)}
        for path in self.links:
            target = self.real_path(path)
            if target is None:
                obstacles[path] = A_CIRCLE
            else:
                links[path] = target
        # A link to nothing is as good as one to a folder, which a layer makes.
        files = self._files_among(set(links.values()) - self.folders.keys() - {""})
        for path in [path for path, target in links.items() if target in files]:
            del links[path]
            if _SHALLOW.fullmatch(path):
                obstacles[path] = A_FILE
        # JSON can't hold names that aren't text, and no path of ours leads through one.
        links = {path: target for path, target in links.items() if is_text(path + target)}
        obstacles = {path: why for path, why in obstacles.items() if is_text(path)}
        special = {
            path: mode for path, mode in self.folders.items() if mode and mode != PLAIN and is_text(path)
        }
        return Folders(links, special, nearest(obstacles))

    def _files_among(self, paths: set[str]) -> set[str]:
        """Those of the paths that are files, whether or not something of them is kept."""
        numbers = {hash(path): path for path in paths}
        found: set[str] = set()
        for layer in self._layers:
            exact, below = _exact_and_below(layer.gone)
            found = {path for path in found if path not in exact and not path.startswith(below)}
            found |= {numbers[number] for number in layer.paths if number in numbers}
        return found

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Kept files with their content, by path."""
        return ((path, found) for path, found in sorted(self.files.items()) if isinstance(found, bytes))

    def libraries(self) -> Iterator[tuple[str, Elf]]:
        """Shared libraries, by path."""
        return ((path, found) for path, found in sorted(self.files.items()) if isinstance(found, Elf))


def _exact_and_below(gone: Iterable[str]) -> tuple[set[str], tuple[str, ...]]:
    exact = {path for path in gone if not path.endswith("/")}
    return exact, tuple(path.rstrip("/") + "/" for path in gone)
