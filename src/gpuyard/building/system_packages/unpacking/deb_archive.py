"""The file of a package (deb(5)): an ar archive with two tars, each packed in a way of its own."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Mapping
from typing import IO, cast

import zstandard

from gpuyard import errors

_MAGIC = b"!<arch>\n"
_HEADER = 60
_PACKED_PIECE = 1 << 16


def find_parts(file: IO[bytes], name: str) -> dict[str, tuple[str, IO[bytes]]]:
    """Members of the ar archive: control.tar and data.tar, each with its packing's ending."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise damaged(name, "it isn't an ar archive")
    found: dict[str, tuple[str, IO[bytes]]] = {}
    while len(header := file.read(_HEADER)) == _HEADER:
        label, digits = header[:16].decode("ascii").strip().rstrip("/"), header[48:58].strip()
        if not digits.isdigit() or header[58:] != b"`\n":
            raise damaged(name, "its ar archive is damaged")
        size = int(digits)
        base, tar, end = label.partition(".tar")
        if tar:
            found[base + tar] = (end, cast("IO[bytes]", _ArMember(file, file.tell(), size)))
        file.seek(size + size % 2, 1)
    return found


class _ArMember:
    """A part of a file, as a file."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file = file
        self._at = start
        self._end = start + size

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._at
        self._file.seek(self._at)
        piece = self._file.read(left if size < 0 else min(size, left))
        self._at += len(piece)
        return piece


def open_part(parts: Mapping[str, tuple[str, IO[bytes]]], which: str, name: str) -> IO[bytes]:
    """A tar of the package, as its packing gives it back; raises BuildError and what the packing raises."""
    if which not in parts:
        raise damaged(name, f"it has no {which}")
    end, part = parts[which]
    match end:
        case ".xz" | ".lzma":
            return cast("IO[bytes]", _Xz(part))
        case ".gz":
            return cast("IO[bytes]", gzip.GzipFile(fileobj=part))
        case ".zst":
            return cast(
                "IO[bytes]", zstandard.ZstdDecompressor().stream_reader(part, read_across_frames=True)
            )
        case ".bz2":
            return cast("IO[bytes]", bz2.BZ2File(part))
        case "":
            return part
        case _:
            raise ValueError(f"nobody knows how to unpack .tar{end}")


class _Xz:
    """What is packed with xz or LZMA, as a file. `LZMAFile` takes longer by an eighth, for smaller pieces."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor()

    def read(self, size: int) -> bytes:
        found = b""
        while not found:
            if self._decoder.eof:
                packed = self._decoder.unused_data or self._file.read(_PACKED_PIECE)
                if not packed.strip(b"\0"):
                    break
                self._decoder = lzma.LZMADecompressor()
            elif self._decoder.needs_input:
                packed = self._file.read(_PACKED_PIECE)
                if not packed:
                    raise EOFError("it ends too soon")
            else:
                packed = b""
            found = self._decoder.decompress(packed, size)
        return found


def damaged(name: str, why: str) -> errors.BuildError:
    """The error for a package that isn't as packages are."""
    return errors.BuildError(f"the package {name} can't be unpacked: {why}", remedy="tell its distribution")
