"""What the loader reads of a shared library: its name, what it needs, and where it looks for that.

By program headers alone, which every library that can be loaded has; section headers may be stripped.
Sources: the System V ABI (gABI), chapter 5; the Linux Standard Base for symbol versions.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from gpuyard.regular_files import open_regular

#: Numbers of `e_machine`.
I386, ARM, X86_64, AARCH64 = 3, 40, 62, 183

#: Kept of a stream that only goes forwards: so much of its front, and of what was read last.
_KEPT = 32 << 20
_PIECE = 1 << 20
#: More than any loader would take: what says more is nonsense.
_MOST_PROGRAM_HEADERS = 1 << 10
_MOST_DYNAMIC = 1 << 14
_MOST_NAMES = 1 << 12
_MOST_NAME = 1 << 12

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 14, 15, 29
_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
_ONCE = frozenset({_DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH, _DT_VERNEED, _DT_VERNEEDNUM})


class Readable(Protocol):
    """A file or a stream that is read from its beginning; it needn't seek."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


@dataclass(frozen=True)
class Elf:
    """A shared library or a program.

    Attributes:
        bits: 32 or 64.
        machine: `e_machine`, such as X86_64.
        soname: the name that others need it by; empty where it has none.
        needed: sonames of what is loaded with it.
        rpath: folders that are looked into for it and for what it needs, before LD_LIBRARY_PATH; ignored
            where it has a runpath. May begin with $ORIGIN.
        runpath: folders for what it itself needs.
        versions: soname → versions of its symbols that must be there, such as GLIBC_2.34.
    """

    bits: int
    machine: int
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Elf:
        """From the cache, where it lies as `dataclasses.asdict` gives it."""
        lists = {name: tuple(raw[name]) for name in ("needed", "rpath", "runpath")}
        versions = {soname: tuple(found) for soname, found in raw["versions"].items()}
        return cls(**{**raw, **lists, "versions": versions})


def read_elf(file: Readable) -> Elf | None:
    """Reads an ELF file of any machine, no further than needed.

    Returns:
        None for what isn't ELF, has nothing for the loader, or is damaged.
    """
    try:
        return _ElfFile(_ForwardOnly(file).read_at).elf()
    except (EOFError, ValueError, struct.error):
        return None


def read_elf_file(path: Path) -> Elf | None:
    """Reads a file of this machine, the few pieces that count.

    Returns:
        None as of `read_elf`, and for what can't be read.
    """
    try:
        descriptor = open_regular(path, follow_links=True)
    except OSError:
        return None

    def read_at(start: int, size: int) -> bytes:
        found = os.pread(descriptor, size, start)
        if len(found) != size:
            raise EOFError
        return found

    try:
        return _ElfFile(read_at).elf()
    except (EOFError, OSError, OverflowError, ValueError, struct.error):
        return None
    finally:
        os.close(descriptor)


_ReadAt: TypeAlias = Callable[[int, int], bytes]


class _ForwardOnly:
    """Reads by position from what can't go back: libraries have most that counts at either end."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._front = bytearray()
        self._last: deque[tuple[int, bytes]] = deque(maxlen=_KEPT // _PIECE)
        self._end = 0

    def read_at(self, start: int, size: int) -> bytes:
        """Exactly so many bytes."""
        while self._end < start + size and self._step():
            pass
        if start + size <= len(self._front):
            return bytes(self._front[start : start + size])
        found = b"".join(self._parts(start, start + size))
        if len(found) != size:
            raise EOFError
        return found

    def _parts(self, start: int, end: int) -> Iterator[bytes]:
        yield bytes(self._front[start:end])
        for at, piece in self._last:
            if at < end and start < at + len(piece):
                yield piece[max(0, start - at) : end - at]

    def _step(self) -> bool:
        # The first piece is small: most files that somebody takes for a library need no more.
        piece = self._file.read(_PIECE if self._end else 1 << 12)
        if len(self._front) < _KEPT:
            self._front += piece
        else:
            self._last.append((self._end, piece))
        self._end += len(piece)
        return bool(piece)


class _ElfFile:
    """Reads one file."""

    def __init__(self, read_at: _ReadAt) -> None:
        self._read_at = read_at
        ident = read_at(0, 16)
        if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise ValueError
        self._wide = ident[4] == 2
        self._order = "<" if ident[5] == 1 else ">"
        self._loaded: list[tuple[int, int, int]] = []

    def elf(self) -> Elf:
        """What the file says."""
        layout = "HHIQQQIHHH" if self._wide else "HHIIIIIHHH"
        _, machine, _, _, offset, _, _, _, entry_size, count = self._unpack(layout, 16)
        dynamic = self._dynamic(*self._program_headers(offset, entry_size, count))
        if (table := dynamic.get(_DT_STRTAB)) is None:
            raise ValueError
        names = _StringTable(self._read_at, self._offset(table[0]), dynamic.get(_DT_STRSZ, [0])[0])
        return Elf(
            64 if self._wide else 32,
            machine,
            soname=next(map(names.at, dynamic.get(_DT_SONAME, [])), ""),
            needed=tuple(dict.fromkeys(map(names.at, dynamic.get(_DT_NEEDED, [])))),
            rpath=_folders(names, dynamic.get(_DT_RPATH, [])),
            runpath=_folders(names, dynamic.get(_DT_RUNPATH, [])),
            versions=dict(self._versions(names, dynamic)),
        )

    def _program_headers(self, offset: int, entry_size: int, count: int) -> tuple[int, int]:
        """Where the dynamic table is, and its size in bytes; remembers what is loaded where."""
        if count > _MOST_PROGRAM_HEADERS:
            raise ValueError
        found = None
        for index in range(count):
            at = offset + index * entry_size
            if self._wide:
                kind, _, start, address, _, size = self._unpack("IIQQQQ", at)
            else:
                kind, start, address, _, size = self._unpack("IIIII", at)
            if kind == _PT_LOAD:
                self._loaded.append((address, start, size))
            elif kind == _PT_DYNAMIC:
                found = start, size
        if found is None:
            raise ValueError
        return found

    def _dynamic(self, start: int, size: int) -> dict[int, list[int]]:
        """Values by tag, up to the table's end."""
        entry = struct.Struct(self._order + ("QQ" if self._wide else "II"))
        count = min(size // entry.size, _MOST_DYNAMIC)
        found: dict[int, list[int]] = {}
        for tag, value in entry.iter_unpack(self._read_at(start, count * entry.size)):
            if tag == 0:
                break
            if tag in _ONCE or tag == _DT_NEEDED:
                found.setdefault(tag, []).append(value)
        if len(found.get(_DT_NEEDED, ())) > _MOST_NAMES:
            raise ValueError
        return found

    def _versions(
        self, names: _StringTable, dynamic: Mapping[int, list[int]]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        if _DT_VERNEED not in dynamic:
            return
        at = self._offset(dynamic[_DT_VERNEED][0])
        left = _MOST_NAMES
        for _ in range(dynamic.get(_DT_VERNEEDNUM, [0])[0]):
            _, count, file, first, following = self._unpack("HHIII", at)
            found: list[str] = []
            inner = at + first
            for _ in range(count):
                _, _, _, name, step = self._unpack("IHHII", inner)
                found.append(names.at(name))
                left -= 1
                if not step or left < 0:
                    break
                inner += step
            yield names.at(file), tuple(found)
            left -= 1
            if not following or left < 0:
                return
            at += following

    def _offset(self, address: int) -> int:
        """Where in the file an address of the loaded library is."""
        for start, offset, size in self._loaded:
            if start <= address < start + size:
                return offset + address - start
        raise ValueError

    def _unpack(self, layout: str, start: int) -> tuple[Any, ...]:
        found = struct.Struct(self._order + layout)
        return found.unpack(self._read_at(start, found.size))


class _StringTable:
    """The table of strings."""

    def __init__(self, read_at: _ReadAt, start: int, size: int) -> None:
        self._read_at = read_at
        self._start = start
        self._size = size

    def at(self, offset: int) -> str:
        """The string at an offset; of names that aren't UTF-8, what is in messages."""
        size = min(self._size - offset, _MOST_NAME)
        if size <= 0:
            raise ValueError
        text, end, _ = self._read_at(self._start + offset, size).partition(b"\0")
        if not end:
            raise ValueError
        return text.decode("utf-8", "replace")


def _folders(names: _StringTable, offsets: list[int]) -> tuple[str, ...]:
    return tuple(folder for offset in offsets for folder in names.at(offset).split(":") if folder)
