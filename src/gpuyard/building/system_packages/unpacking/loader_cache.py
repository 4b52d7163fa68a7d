"""The loader's cache, /etc/ld.so.cache, as ldconfig writes it after libraries came into an image.

The loader finds libraries outside its default folders by this file alone, and takes it for the truth about
those inside. Format `glibc-ld.so.cache1.1`, which every glibc since 2.2 reads (alone since 2.32).
Source: glibc, sysdeps/generic/dl-cache.h and elf/ldconfig.c; the tests hold it against ldconfig itself.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gpuyard.elf import AARCH64, ARM, I386, X86_64, Elf

PATH = "etc/ld.so.cache"
CONF = "etc/ld.so.conf"

_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_LITTLE_ENDIAN = 2
#: Flags by what `e_machine` says and the bits, for each machine that an image may be of: `libc6` and the
#: architecture. A 32-bit ARM library in an arm64 image is one of hard floats.
_FLAGS: Mapping[int, Mapping[tuple[int, int], int]] = {
    X86_64: {(X86_64, 64): 0x0303, (X86_64, 32): 0x0803, (I386, 32): 0x0003},
    AARCH64: {(AARCH64, 64): 0x0A03, (ARM, 32): 0x0903},
}
#: Folders whose libraries only some processors can run, by the folder's name (glibc 2.33 or later).
_HWCAPS = "glibc-hwcaps"
_HWCAPS_BIT = 1 << 62
_EXTENSION_MAGIC = 0xEAA42174
_EXTENSION_HWCAPS = 1
#: Where the loader looks without being told.
_DEFAULT_FOLDERS = ("/lib", "/usr/lib")
_NAME = re.compile(r"(?:lib|ld-).*\.so.*|ld(?:64)?\.so\..*")
_MOST_INCLUDES = 16
_DIGITS = re.compile(r"(\d+)", re.ASCII)


@dataclass(frozen=True)
class LoaderCache:
    """What ldconfig leaves in an image.

    Attributes:
        content: of /etc/ld.so.cache.
        links: links by soname that the libraries' packages didn't bring: path without a leading slash →
            the library's file name in the same folder.
    """

    content: bytes
    links: Mapping[str, str]


@dataclass(frozen=True)
class _LibraryName:
    """A name in a folder that leads to a library; `target` is where the library is."""

    name: str
    target: str
    elf: Elf
    is_link: bool


@dataclass(frozen=True)
class _CacheLine:
    """A line of the cache."""

    soname: str
    path: str
    flags: int
    hwcaps: str = ""

    def order(self) -> tuple[object, ...]:
        """Ascending: the loader halves its way to a name, and takes the first that fits."""
        return (_name_order(self.soname), self.flags)


def loader_cache(
    libraries: Mapping[str, Elf],
    links: Mapping[str, str],
    follow: Callable[[str], str],
    conf: Mapping[str, bytes],
    machine: int,
) -> LoaderCache:
    """What ldconfig would make of an image.

    Args:
        libraries: the image's, by path; paths have no leading slash.
        links: to libraries, and where each leads at last.
        follow: gives a path with the image's links to folders followed.
        conf: /etc/ld.so.conf and what lies in /etc/ld.so.conf.d, by path.
        machine: `e_machine` of the image's own programs; X86_64 or AARCH64.
    """
    flags = _FLAGS[machine]
    folders = _by_folder(libraries, links, follow, flags.keys())
    entries: list[_CacheLine] = []
    made: dict[str, str] = {}
    seen: set[str] = set()
    for listed in (*_configured(conf), *_DEFAULT_FOLDERS):
        real = follow(listed)
        if real in seen:
            continue
        seen.add(real)
        for soname, file in sorted(_chosen(folders.get(real, ())).items()):
            entries.append(_CacheLine(soname, f"{listed}/{soname}", flags[file.elf.machine, file.elf.bits]))
            if not file.is_link and (link := _link(real, soname, file, folders[real])):
                made[link] = file.name
        for inner in sorted(folders):
            if posixpath.dirname(inner) == f"{real}/{_HWCAPS}":
                name = posixpath.basename(inner)
                entries += [
                    _CacheLine(
                        soname,
                        f"{listed}/{_HWCAPS}/{name}/{file.name}",
                        flags[file.elf.machine, file.elf.bits],
                        name,
                    )
                    for soname, file in sorted(_chosen(folders[inner]).items())
                ]
    return LoaderCache(_written(entries), made)


def _by_folder(
    libraries: Mapping[str, Elf],
    links: Mapping[str, str],
    follow: Callable[[str], str],
    machines: Iterable[tuple[int, int]],
) -> dict[str, list[_LibraryName]]:
    """What may be a library for the loader, by the folder that it really is in."""
    wanted = set(machines)
    real = {follow(path): elf for path, elf in libraries.items() if (elf.machine, elf.bits) in wanted}
    found: dict[str, list[_LibraryName]] = {}
    for path, target, is_link in (
        *((path, path, False) for path in real),
        *((path, target, True) for path, target in links.items()),
    ):
        folder, _, name = path.rpartition("/")
        if (elf := real.get(target)) and _NAME.fullmatch(name):
            found.setdefault(follow(folder), []).append(_LibraryName(name, target, elf, is_link))
    return found


def _chosen(files: Iterable[_LibraryName]) -> dict[str, _LibraryName]:
    """The file for each soname of a folder: not a link where there is one, else the highest version."""
    found: dict[str, _LibraryName] = {}
    for file in files:
        soname = file.elf.soname or file.name
        if "/" in soname or "\0" in soname:
            continue
        # A link by the soname, or the one that compilers use, stands for itself; another is as a file.
        is_link = file.is_link and (
            file.name == soname or (file.name.endswith(".so") and soname.startswith(file.name))
        )
        if is_link:
            soname = file.name
        file = _LibraryName(file.name, file.target, file.elf, is_link)
        other = found.get(soname)
        if other is None or _rank(other) < _rank(file):
            found[soname] = file
    return found


def _rank(file: _LibraryName) -> tuple[object, ...]:
    return (not file.is_link, _name_order(file.name), file.name)


def _link(folder: str, soname: str, file: _LibraryName, files: Iterable[_LibraryName]) -> str | None:
    """The path of a link that is missing or leads to another library."""
    there = next((other for other in files if other.name == soname), None)
    if there and (not there.is_link or there.target == file.target):
        return None
    return f"{folder}/{soname}"


def _configured(conf: Mapping[str, bytes], path: str = CONF, depth: int = 0) -> Iterator[str]:
    """Folders that the configuration names, without a slash at the end."""
    for line in conf.get(path, b"").decode("utf-8", "surrogateescape").splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] == "hwcap":
            continue
        if words[0] != "include" or len(words) == 1:
            # A type of library may follow, as `/usr/lib=libc5`; folders' names may have spaces.
            folder = line.partition("#")[0].partition("=")[0].strip().rstrip("/")
            if folder.startswith("/"):
                yield folder
        elif depth < _MOST_INCLUDES:
            for pattern in words[1:]:
                wanted = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), pattern)).strip("/")
                for name in sorted(conf):
                    if name.count("/") == wanted.count("/") and fnmatch.fnmatchcase(name, wanted):
                        yield from _configured(conf, name, depth + 1)


def _name_order(name: str) -> tuple[tuple[int, int], ...]:
    """The loader's own order of names: numbers by their value, and after other characters."""
    found: list[tuple[int, int]] = []
    for index, part in enumerate(_DIGITS.split(name)):
        if index % 2:
            found.append((1, int(part)))
        else:
            # Characters are signed in it.
            found += [
                (0, byte - 256 if byte > 127 else byte) for byte in part.encode("utf-8", "surrogateescape")
            ]
    return tuple(found)


def _written(entries: Iterable[_CacheLine]) -> bytes:
    # Among equal names those for some processors come first, by their folder's name; then the first folder's.
    ordered = sorted(entries, key=lambda entry: (not entry.hwcaps, entry.hwcaps))
    ordered.sort(key=_CacheLine.order, reverse=True)
    hwcaps = sorted({entry.hwcaps for entry in ordered if entry.hwcaps})
    strings = _StringArea(_HEADER.size + _ENTRY.size * len(ordered))
    body = b"".join(
        _ENTRY.pack(
            entry.flags,
            *strings.end_of(entry.path, entry.soname),
            0,
            _HWCAPS_BIT | hwcaps.index(entry.hwcaps) if entry.hwcaps else 0,
        )
        for entry in ordered
    )
    names = b"".join(struct.pack("<I", strings.add(name)) for name in hwcaps)
    end = strings.start + len(strings.content)
    padding = b"\0" * (-end % 4)
    extension = b""
    if names:
        at = end + len(padding)
        extension = (
            struct.pack("<IIIIII", _EXTENSION_MAGIC, 1, _EXTENSION_HWCAPS, 0, at + 24, len(names)) + names
        )
    header = _HEADER.pack(
        _MAGIC, len(ordered), len(strings.content), _LITTLE_ENDIAN, end + len(padding) if extension else 0
    )
    return header + body + bytes(strings.content) + (padding + extension if extension else b"")


class _StringArea:
    """Strings that end in NUL, each once; positions count from the file's start."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.content = bytearray()
        self._known: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Where a string is."""
        if text not in self._known:
            self._known[text] = self.start + len(self.content)
            self.content += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._known[text]

    def end_of(self, path: str, name: str) -> tuple[int, int]:
        """Where a name and a path are; a name that the path ends with is its end."""
        at = self.add(path)
        if path.endswith(name):
            return at + len(path.encode("utf-8", "surrogateescape")) - len(
                name.encode("utf-8", "surrogateescape")
            ), at
        return self.add(name), at
