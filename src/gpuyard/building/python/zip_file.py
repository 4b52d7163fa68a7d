"""Members of a zip file read at speed: one positioned read and one igzip call for most of them."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from isal import isal_zlib

from gpuyard import errors

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_PIECE = 1 << 20


class ZipFile:
    """A zip on disk, read by position, so several readers may share it. A context manager.

    Args:
        path: where it is.
        name: what messages call it, when its path says nothing to people.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name or path.name
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = tuple(info for info in archive.infolist() if not info.is_dir())
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise errors.ImageDamaged(
                f"{self.name} is not a readable zip file: {error}",
                remedy=f"remove {path}: the next build fetches it again",
            ) from error

    def __enter__(self) -> ZipFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """A small member as a whole."""
        return b"".join(self.pieces(member))

    def pieces(self, member: zipfile.ZipInfo) -> Iterator[bytes]:
        """A member's content in pieces; raises ImageDamaged when its checksum or size differs."""
        start = self._start(member)
        crc = size = 0
        for piece in self._inflated(member, start):
            crc = isal_zlib.crc32(piece, crc)
            size += len(piece)
            yield piece
        if crc != member.CRC or size != member.file_size:
            raise self._damaged(member)

    def _start(self, member: zipfile.ZipInfo) -> int:
        header = self._read_at(member.header_offset, _LOCAL_HEADER.size, member)
        if len(header) != _LOCAL_HEADER.size:
            raise self._damaged(member)
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        if signature != b"PK\x03\x04" or member.flag_bits & 0x1:
            raise self._damaged(member)
        return int(member.header_offset + _LOCAL_HEADER.size + name_length + extra_length)

    def _inflated(self, member: zipfile.ZipInfo, start: int) -> Iterator[bytes]:
        raw = self._raw(start, member)
        if member.compress_type == zipfile.ZIP_STORED:
            yield from raw
            return
        if member.compress_type != zipfile.ZIP_DEFLATED:
            raise errors.ImageDamaged(
                f"{self.name}: {member.filename} is compressed in a way that can't be read"
            )
        inflate = isal_zlib.decompressobj(-15)
        try:
            for piece in raw:
                # Bounded, so that a member that inflates a thousandfold doesn't fill the memory.
                out = inflate.decompress(piece, _PIECE)
                while out:
                    yield out
                    out = (
                        inflate.decompress(inflate.unconsumed_tail, _PIECE)
                        if inflate.unconsumed_tail
                        else b""
                    )
            while out := inflate.flush(_PIECE):
                yield out
        except isal_zlib.error as error:  # type: ignore[misc]
            raise self._damaged(member) from error

    def _raw(self, start: int, member: zipfile.ZipInfo) -> Iterator[bytes]:
        end = start + member.compress_size
        while start < end:
            piece = self._read_at(start, min(_PIECE, end - start), member)
            if not piece:
                return
            yield piece
            start += len(piece)

    def _read_at(self, start: int, size: int, member: zipfile.ZipInfo) -> bytes:
        try:
            return os.pread(self._handle, size, start)
        except (OSError, OverflowError) as error:
            # The disk fails, or the zip's directory names a place that no file has.
            raise self._damaged(member) from error

    def _damaged(self, member: zipfile.ZipInfo) -> errors.ImageDamaged:
        return errors.ImageDamaged(
            f"{self.name} is damaged at {member.filename}",
            remedy=f"remove {self.path}: the next build fetches it again",
        )
