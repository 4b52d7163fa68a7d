"""Layers: sorted entries → tar → compressed stream with both digests, in one pass and little memory.

Equal entries give equal tars wherever and whenever they are made: order, owner, mode and time are set
here and nothing of this machine gets in. The compressed digest depends on the compressor as well, so its
name is part of what a layer is known by.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from isal import __version__ as isal_version
from isal import isal_zlib

from gpuyard import errors
from gpuyard.images.oci import OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, Digest

#: 1980-01-01: the first time that zip files can hold, so tools that pack a layer's files again accept it.
EPOCH = 315532800

_Block = TypeVar("_Block")

_BLOCK = 512
_END = b"\0" * (2 * _BLOCK)
#: Layers are hashed and compressed in blocks of this size, the last one excepted.
PIECE = 1 << 20
#: Part of a compression's name.
_BLOCKS = f"in blocks of {PIECE >> 10} KiB"
#: Pieces that wait for their reader.
_AHEAD = 16
_LEVEL_GZIP = 1
_LEVEL_ZSTD = 3

#: What a layer's names begin with that remove something, or, for what is more, a folder's content.
WHITEOUT = ".wh."
FILE, HARD_LINK, LINK, FOLDER = b"0", b"1", b"2", b"5"


@dataclass(frozen=True)
class Entry:
    """One member of a layer.

    Attributes:
        path: relative to the image's root, without a leading or trailing slash.
        size: of a file in bytes; 0 for others.
        content: opens a file's bytes, once; they must be exactly `size`.
        mode: permission bits.
        kind: FILE, LINK, FOLDER, or HARD_LINK to an entry before it.
        target: where a link points; of a hard link a path like `path`.
        owner: uid, and gid where there is no `group`.
        group: gid.
        removes: whether it takes something of a lower layer away: see `removal`.
    """

    path: str
    size: int = 0
    content: Callable[[], Iterable[bytes]] | None = None
    mode: int = 0o644
    kind: bytes = FILE
    target: str = ""
    owner: int = 0
    group: int | None = None
    removes: bool = False

    @property
    def gid(self) -> int:
        """The group's number."""
        return self.owner if self.group is None else self.group

    @classmethod
    def folder(cls, path: str, *, mode: int = 0o755, owner: int = 0, group: int | None = None) -> Entry:
        """A folder."""
        return cls(path, mode=mode, kind=FOLDER, owner=owner, group=group)

    @classmethod
    def link(cls, path: str, target: str) -> Entry:
        """A symbolic link."""
        return cls(path, mode=0o777, kind=LINK, target=target)

    @classmethod
    def removal(cls, path: str) -> Entry:
        """Of what a lower layer has (OCI image layer specification, "Whiteouts")."""
        folder, slash, name = path.rpartition("/")
        return cls(f"{folder}{slash}{WHITEOUT}{name}", removes=True)

    @classmethod
    def of_bytes(cls, path: str, content: bytes, *, mode: int = 0o644) -> Entry:
        """A small file that is in memory."""
        return cls(path, len(content), lambda: (content,), mode)


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """Entries sorted by path, with the folders that lead to them; of two for one path the later wins.

    Raises:
        BuildError: one is a file and another lies in it.
    """
    found = {entry.path: entry for entry in entries}
    for path in list(found):
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found[parent] = Entry.folder(parent)
            parent = parent.rpartition("/")[0]
        if parent and found[parent].kind != FOLDER:
            raise errors.BuildError(
                f"the image would have {parent} as a file and as a folder with {path} in it",
                remedy="two wheels install it: require only one of them",
            )
    return [found[path] for path in sorted(found)]


def tar_pieces(entries: Iterable[Entry], mtime: int) -> Iterator[bytes]:
    """A tar of the entries in the order given; headers are POSIX ustar, pax where ustar can't say it.

    Raises:
        BuildError: an entry isn't what it was to be, or would take another away by its name.
    """
    for entry in entries:
        if not entry.removes and f"/{WHITEOUT}" in f"/{entry.path}":
            raise errors.BuildError(
                f"the image would have {entry.path}, and what begins with {WHITEOUT} takes other files away",
                remedy="rename it, or leave it out: list it in .gpuyardignore, require no wheel that has it",
            )
        yield _header(entry, mtime)
        if entry.content is None:
            continue
        written = 0
        for piece in entry.content():
            written += len(piece)
            yield piece
        if written != entry.size:
            raise errors.BuildError(
                f"{entry.path} has {written} bytes and was to have {entry.size}",
                remedy="it changed while the image was built: build again",
            )
        if rest := written % _BLOCK:
            yield b"\0" * (_BLOCK - rest)
    yield _END


def _header(entry: Entry, mtime: int) -> bytes:
    name = entry.path + ("/" if entry.kind == FOLDER else "")
    raw = name.encode("utf-8", "surrogateescape")
    target = entry.target.encode("utf-8", "surrogateescape")
    plain = raw.isascii() and target.isascii() and entry.owner < 8**7 and entry.gid < 8**7
    if len(raw) > 100 or len(target) > 100 or entry.size >= 8**11 or not plain:
        return _pax_header(entry, name, mtime)
    fields = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0        %s%sustar\00000" % (
        raw.ljust(100, b"\0"),
        entry.mode,
        entry.owner,
        entry.gid,
        entry.size,
        mtime,
        entry.kind,
        target.ljust(100, b"\0"),
    )
    block = fields.ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax_header(entry: Entry, name: str, mtime: int) -> bytes:
    import tarfile  # Few layers need it, and it costs start-up time.

    info = tarfile.TarInfo(name)
    info.mode, info.size, info.mtime, info.type = entry.mode, entry.size, mtime, entry.kind
    info.uid, info.gid = entry.owner, entry.gid
    info.linkname = entry.target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


@dataclass(frozen=True)
class Compression:
    """How a layer is packed. `name` says all that its digest depends on besides the tar."""

    name: str
    media_type: str
    start: Callable[[], Any] = field(compare=False, hash=False)


def _start_zstd() -> Any:
    import zstandard

    return zstandard.ZstdCompressor(level=_LEVEL_ZSTD).compressobj()


def compression(kind: str = "gzip") -> Compression:
    """`gzip` (igzip, which all tools read) or `zstd` (containerd 1.5 and Docker 23 or later)."""
    if kind == "zstd":
        import zstandard

        return Compression(
            f"zstd-{_LEVEL_ZSTD} {zstandard.__version__} {_BLOCKS}", OCI_LAYER_ZSTD, _start_zstd
        )
    return Compression(
        f"igzip-{_LEVEL_GZIP} {isal_version} {_BLOCKS}",
        OCI_LAYER_GZIP,
        lambda: isal_zlib.compressobj(_LEVEL_GZIP, isal_zlib.DEFLATED, 31),
    )


@dataclass(frozen=True)
class Layer:
    """A finished layer.

    Attributes:
        blob: what a manifest lists.
        diff_id: digest of the tar itself.
        tar_bytes: its size.
    """

    blob: Descriptor
    diff_id: Digest
    tar_bytes: int

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return {"blob": self.blob.raw(), "diff_id": self.diff_id, "tar_bytes": self.tar_bytes}

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Layer:
        """From the cache."""
        return cls(Descriptor.of(raw["blob"]), Digest(raw["diff_id"]), int(raw["tar_bytes"]))


class Packer:
    """Packs one tar: iterate to get the compressed bytes, then read `layer`.

    Args:
        tar: the tar's bytes, in pieces of any size.
        how: how they are compressed.
    """

    def __init__(self, tar: Iterable[bytes], how: Compression) -> None:
        self._tar = tar
        self._how = how
        self._layer: Layer | None = None

    @classmethod
    def of_entries(cls, entries: Iterable[Entry], mtime: int, how: Compression) -> Packer:
        """Of a layer's members in the order given."""
        return cls(tar_pieces(entries, mtime), how)

    @property
    def layer(self) -> Layer:
        """What was packed; only after the last byte."""
        assert self._layer is not None, "the layer is known when its last byte was read"
        return self._layer

    def __iter__(self) -> Iterator[bytes]:
        diff, packed = hashlib.sha256(), hashlib.sha256()
        squeeze = self._how.start()
        tar_bytes = packed_bytes = 0
        for block in read_ahead(_hashed(_joined(self._tar), diff)):
            tar_bytes += len(block)
            out = squeeze.compress(block)
            if out:
                packed.update(out)
                packed_bytes += len(out)
                yield out
        out = squeeze.flush()
        packed.update(out)
        packed_bytes += len(out)
        yield out
        blob = Descriptor(self._how.media_type, Digest(f"sha256:{packed.hexdigest()}"), packed_bytes)
        self._layer = Layer(blob, Digest(f"sha256:{diff.hexdigest()}"), tar_bytes)


def _joined(pieces: Iterable[bytes]) -> Iterator[memoryview]:
    """The same bytes in blocks of PIECE, wherever the pieces end: what igzip makes of them depends on where
    its input is cut, and a reader gives shorter pieces when a disk, a network or a zip file does."""
    waiting: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE:
            joined = memoryview(b"".join(waiting))
            whole = size - size % PIECE
            for start in range(0, whole, PIECE):
                yield joined[start : start + PIECE]
            waiting, size = [joined[whole:]], size - whole
    if size:
        yield memoryview(b"".join(waiting))


def _hashed(blocks: Iterable[memoryview], into: hashlib._Hash) -> Iterator[memoryview]:
    for block in blocks:
        into.update(block)
        yield block


def read_ahead(blocks: Iterator[_Block]) -> Generator[_Block]:
    """Makes each block in a thread of its own while the one before it is used."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = thread.submit(next, blocks, None)
            yield block


async def in_thread(pieces: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """Runs an iterator in a thread, some pieces ahead of its reader: a registry may take its time."""
    loop = asyncio.get_running_loop()
    found: asyncio.Queue[bytes | None] = asyncio.Queue()
    free = threading.Semaphore(_AHEAD)
    abandoned = False

    def run() -> None:
        try:
            for piece in pieces:
                free.acquire()
                if abandoned:
                    return
                loop.call_soon_threadsafe(found.put_nowait, piece)
        finally:
            loop.call_soon_threadsafe(found.put_nowait, None)

    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        while (piece := await found.get()) is not None:
            free.release()
            yield piece
        await running
    finally:
        abandoned = True
        free.release()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
