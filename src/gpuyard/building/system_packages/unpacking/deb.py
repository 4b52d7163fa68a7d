"""A package's file (deb(5)), read once, when it comes: its control files, and its files as a list and a tar.

The tar is kept packed with zstd: packages are packed with xz, which takes ten times as long to unpack.
"""

from __future__ import annotations

import hashlib
import lzma
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import zstandard

from gpuyard import errors
from gpuyard.building.system_packages.control import Fields, parse_fields, split_paragraphs
from gpuyard.building.system_packages.unpacking.deb_archive import damaged, find_parts, open_part
from gpuyard.elf import Elf, read_elf
from gpuyard.images.contents.overlay import open_layer
from gpuyard.images.contents.system import is_library
from gpuyard.images.layers import FILE, FOLDER, HARD_LINK, LINK, WHITEOUT

_TAR = "one of its parts"
_PIECE = 1 << 18
_FRAME = 1 << 20
_MOST_CONTROL = 64 << 20
_UNPACKING = (lzma.LZMAError, zlib.error, zstandard.ZstdError)
#: A control file's name: it becomes part of a path.
_CONTROL_NAME = re.compile(r"[a-z][a-z0-9-]*")
#: More than any user has, and as much as a tar's header holds.
_MOST_ID = 1 << 21
_KINDS = {
    tarfile.REGTYPE: FILE,
    tarfile.AREGTYPE: FILE,
    tarfile.DIRTYPE: FOLDER,
    tarfile.SYMTYPE: LINK,
    tarfile.LNKTYPE: HARD_LINK,
}


class DebMember(NamedTuple):
    """One file of a package.

    Attributes:
        path: as the package has it, without a leading slash; empty for the root.
        kind: FILE, FOLDER, LINK or HARD_LINK.
        target: of links; of a hard link a path like `path`.
        offset: where its bytes begin in the package's tar.
    """

    path: str
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    offset: int
    target: str


@dataclass(frozen=True)
class Deb:
    """What a package holds.

    Attributes:
        control: text of its control file.
        extra: its other control files by name: scripts, md5sums, conffiles, triggers, shlibs.
        members: in the order of its tar.
        conffiles: MD5 by path.
        libraries: its shared libraries by path.
    """

    control: str
    extra: Mapping[str, str]
    members: tuple[DebMember, ...]
    conffiles: Mapping[str, str]
    libraries: Mapping[str, Elf]

    @property
    def fields(self) -> Fields:
        """Of its control file."""
        return parse_fields(self.control)

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return {
            "control": self.control,
            "extra": dict(self.extra),
            "members": [[m.path, m.kind.decode(), *m[2:]] for m in self.members],
            "conffiles": dict(self.conffiles),
            "libraries": {path: asdict(elf) for path, elf in self.libraries.items()},
        }

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Deb:
        """From the cache."""
        return cls(
            raw["control"],
            raw["extra"],
            tuple(DebMember(path, kind.encode(), *rest) for path, kind, *rest in raw["members"]),
            raw["conffiles"],
            {path: Elf.of(elf) for path, elf in raw["libraries"].items()},
        )


def unpack_deb(path: Path, name: str, kept: IO[bytes]) -> Deb:
    """Reads all of a package once.

    Args:
        path: of the file.
        name: of the package, for messages.
        kept: gets the tar of its files, packed with zstd.

    Raises:
        BuildError: it isn't a package, or has a file that can't be in an image.
    """
    try:
        with path.open("rb") as file:
            parts = find_parts(file, name)
            control, extra = _read_control(parts, name)
            listed = [line.split()[-1] for line in extra.get("conffiles", "").splitlines() if line.strip()]
            return _read_data(parts, name, control, extra, {word.strip("/") for word in listed}, kept)
    except (*_UNPACKING, OSError, EOFError, ValueError, errors.ImageDamaged) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # A disk's, and not the package's: those of gzip and bz2 have no number.
        raise damaged(name, str(error)) from error


def _read_control(parts: Mapping[str, tuple[str, IO[bytes]]], name: str) -> tuple[str, dict[str, str]]:
    found: dict[str, str] = {}
    left = _MOST_CONTROL
    with open_layer(open_part(parts, "control.tar", name), _TAR) as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined] # Else it remembers every file.
            path = posixpath.normpath(info.name)
            left -= info.size
            if left < 0:
                raise damaged(name, f"its control files have more than {_MOST_CONTROL} bytes")
            # dpkg makes the list itself.
            if info.isreg() and _CONTROL_NAME.fullmatch(path) and path != "list":
                found[path] = _content(tar, info).read().decode("utf-8", "surrogateescape")
    control = found.pop("control", "")
    paragraphs = split_paragraphs(control)
    if len(paragraphs) != 1 or parse_fields(paragraphs[0]).get("package") != name:
        raise damaged(name, "its control file isn't that of a package of this name")
    return control, found


def _read_data(
    parts: Mapping[str, tuple[str, IO[bytes]]],
    name: str,
    control: str,
    extra: Mapping[str, str],
    conffiles: set[str],
    kept: IO[bytes],
) -> Deb:
    members: list[DebMember] = []
    md5s: dict[str, str] = {}
    libraries: dict[str, Elf] = {}
    files: set[str] = set()
    copied = _Copied(open_part(parts, "data.tar", name), kept)
    with open_layer(cast("IO[bytes]", copied), _TAR) as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined] # Else it remembers every file.
            member = _member(info, files, name)
            members.append(member)
            path = member.path
            if member.kind == FILE and path in conffiles:
                md5s[path] = _md5(tar, info)
            elif member.kind == FILE and is_library(path) and (elf := read_elf(_content(tar, info))):
                libraries[path] = elf
    copied.finish()
    return Deb(control, extra, tuple(members), md5s, libraries)


def _member(info: tarfile.TarInfo, files: set[str], name: str) -> DebMember:
    """What a header says; `files` are those before it."""
    path = _inside(info.name, name)
    kind = _KINDS.get(info.type)
    if kind is None or info.issparse():
        raise damaged(name, f"/{path} is a device, a FIFO or sparse, which no package needs")
    if any(part.startswith(WHITEOUT) for part in path.split("/")):
        raise damaged(name, f"/{path} would remove a file of the base")
    if not (0 <= info.uid < _MOST_ID and 0 <= info.gid < _MOST_ID):
        raise damaged(name, f"/{path} belongs to {info.uid}:{info.gid}")
    target = _inside(info.linkname, name) if kind == HARD_LINK else info.linkname
    if kind == HARD_LINK and target not in files:
        raise damaged(name, f"/{path} is a hard link to /{target}, which the package doesn't have")
    if kind == FILE:
        files.add(path)
    size = info.size if kind == FILE else 0
    return DebMember(path, kind, info.mode & 0o7777, info.uid, info.gid, size, info.offset_data, target)


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", tar.extractfile(info))


def _md5(tar: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    found = hashlib.md5(usedforsecurity=False)
    file = _content(tar, info)
    while piece := file.read(_PIECE):
        found.update(piece)
    return found.hexdigest()


class _Copied:
    """A stream that is read, and packed with zstd on the way.

    In frames that are packed as a whole: zstd is a quarter slower with a stream.
    """

    def __init__(self, file: IO[bytes], kept: IO[bytes]) -> None:
        self._file = file
        self._kept = kept
        # It needn't be the same on two machines: nothing of it goes into an image.
        self._packer = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._frame = bytearray()

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self._frame += piece
        if len(self._frame) >= _FRAME:
            self._write()
        return piece

    def _write(self) -> None:
        self._kept.write(self._packer.compress(self._frame))
        self._frame.clear()

    def finish(self) -> None:
        """Reads what is left."""
        while self.read(_PIECE):
            pass
        self._write()


class ForwardTar:
    """The kept tar of a package, read forwards.

    Args:
        path: of the file.
        name: of the package, for messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._at = 0

    def __enter__(self) -> ForwardTar:
        self._file = self._path.open("rb")
        self._tar = zstandard.ZstdDecompressor().stream_reader(self._file, read_across_frames=True)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            # What is kept has checksums, the last at its end.
            while kind is None and self._some(_PIECE):
                pass
        finally:
            self._file.close()

    def pieces(self, start: int, size: int) -> Iterator[bytes]:
        """A member's bytes; those before it are passed over.

        Args:
            start: where it begins in the tar; not before the end of what was read already.
            size: in bytes.

        Raises:
            BuildError: the tar ends too soon, or is damaged.
        """
        while self._at < start:
            self._read(min(_PIECE, start - self._at))
        for at in range(0, size, _PIECE):
            yield self._read(min(_PIECE, size - at))

    def _read(self, size: int) -> bytes:
        """Exactly so many bytes: what a compressor makes of a layer depends on where its input is cut."""
        piece = self._some(size)
        while len(piece) < size and (more := self._some(size - len(piece))):
            piece += more
        if len(piece) < size:
            raise _unkept(self._name, "it ends too soon")
        self._at += size
        return piece

    def _some(self, most: int) -> bytes:
        try:
            found: bytes = self._tar.read(most)
        except (zstandard.ZstdError, OSError) as error:
            raise _unkept(self._name, str(error)) from error
        return found


def _inside(path: str, name: str) -> str:
    found = posixpath.normpath("/" + path).lstrip("/")
    if ".." in path.split("/"):
        raise damaged(name, f"it has a file {path}")
    return found


def _unkept(name: str, why: str) -> errors.BuildError:
    return errors.BuildError(
        f"what the cache keeps of the package {name} can't be read: {why}",
        remedy="remove the cache folder and build again",
    )
