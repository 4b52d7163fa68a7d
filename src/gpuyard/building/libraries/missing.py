"""Shared libraries that an image lacks for what its wheels import."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gpuyard.building.libraries.module_imports import Import, ModuleFiles, imported_extensions
from gpuyard.building.libraries.wheel_libraries import WheelLibraries
from gpuyard.building.python.wheels import Wheel
from gpuyard.elf import Elf

#: The C library's own, which a base has or not as a whole.
_LIBC = re.compile(
    r"lib(?:c|m|dl|pthread|rt|util|resolv|anl|nsl|BrokenLocale|mvec|thread_db)\.so\.\d+|ld[-\d.].*|libc\.musl-.*"
)
#: The driver's, which the node lays into the container.
_DRIVER = re.compile(
    r"lib(?:cuda|nvidia-[\w.-]+|nvcuvid|nvoptix|cudadebugger|nvidia_[\w.-]+|GLX_nvidia|EGL_nvidia|vdpau_nvidia)\.so(?:\.\d+)*"
)
_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")
#: Stands for a C library that is older than what a wheel needs.
GLIBC = "libc.so.6"


@dataclass(frozen=True)
class Missing:
    """What one wheel lacks.

    Attributes:
        certainty: of the surest import that fails for it.
        sonames: what the image lacks, sorted.
        module: path of an extension module or library that can't be loaded without one of them.
        more: how many further ones there are.
        glibc: the version that it needs, where the image's is older; else (0, 0).
    """

    wheel: Wheel
    certainty: Import
    sonames: tuple[str, ...]
    module: str
    glibc: tuple[int, int] = (0, 0)
    more: int = 0


@dataclass(frozen=True)
class Available:
    """What an image has for the loader.

    Attributes:
        machine: `e_machine` and the bits of what its Python can load.
        names: sonames and file names of the libraries in it, those of its wheels among them.
        glibc: its version; (0, 0) where nobody knows it, None where its C library is another.
    """

    machine: tuple[int, int]
    names: Collection[str]
    glibc: tuple[int, int] | None = (0, 0)


def names_of(libraries: Mapping[str, Elf], links: Iterable[str], machine: tuple[int, int]) -> Iterator[str]:
    """By which names somebody may need libraries.

    Args:
        libraries: by path.
        links: paths of links to libraries.
        machine: those for another don't count.
    """
    for path, elf in libraries.items():
        if (elf.machine, elf.bits) == machine:
            yield path.rpartition("/")[2]
            yield elf.soname
    yield from (path.rpartition("/")[2] for path in links)


def missing_of(
    found: WheelLibraries,
    loader: Loader,
    paths: Callable[[], Iterable[str]],
    read: Callable[[str], bytes],
) -> list[Missing]:
    """What a wheel lacks, the surest first.

    Args:
        found: the wheel's libraries.
        loader: knows all wheels'.
        paths: the wheel's files below site-packages; asked for only when a library is missing.
        read: content of one.
    """
    if not any(map(loader.lacked_by, found.libraries)):
        return []
    entries = imported_extensions(ModuleFiles.of(paths()), read) or _lone_library(found.libraries)
    missing: list[Missing] = []
    known: set[str] = set()
    for certainty in sorted(Import, reverse=True):
        sonames: set[str] = set()
        modules: list[str] = []
        glibc = (0, 0)
        for path in sorted(path for path, sure in entries.items() if sure == certainty):
            if lacked := loader.lacked_by(path):
                modules.append(path)
                sonames |= lacked.sonames
                glibc = max(glibc, lacked.glibc)
        if new := sonames - known:
            more = len(modules) - 1
            missing.append(Missing(found.wheel, certainty, tuple(sorted(new)), modules[0], glibc, more))
        known |= sonames
    return missing


def _lone_library(libraries: Mapping[str, Elf]) -> dict[str, Import]:
    """The one library of a wheel without extension modules, which its Python loads through ctypes."""
    own = [path for path in libraries if not path.partition("/")[0].endswith(".libs")]
    return {own[0]: Import.CERTAIN} if len(own) == 1 else {}


@dataclass
class _Lacked:
    """What loading one library fails for."""

    sonames: set[str] = field(default_factory=set)
    glibc: tuple[int, int] = (0, 0)

    def __bool__(self) -> bool:
        return bool(self.sonames)


class Loader:
    """Loads libraries as the system's loader would, with what they need of each other.

    Args:
        wheels: the libraries of each, by path below site-packages; of two for one path the later wins.
        available: in the image.
    """

    def __init__(self, wheels: Iterable[Mapping[str, Elf]], available: Available) -> None:
        self._available = available
        self._libraries: dict[str, Elf] = {}
        self._wheel: dict[str, int] = {}
        self._by_name: dict[str, list[str]] = {}
        for number, libraries in enumerate(wheels):
            self._libraries |= libraries
            self._wheel |= dict.fromkeys(libraries, number)
        for path, elf in self._libraries.items():
            for name in {path.rpartition("/")[2], elf.soname} - {""}:
                self._by_name.setdefault(name, []).append(path)

    def _named(self, name: str, path: str) -> Iterable[str]:
        """Libraries of a name; for one that needs it, those of its own wheel come first."""
        found = self._by_name.get(name, ())
        return [each for each in found if self._wheel[each] == self._wheel[path]] or found

    def lacked_by(self, path: str) -> _Lacked:
        """What is missing for a library and all that it needs; nothing for a path that isn't one's."""
        found = _Lacked()
        seen = {path}
        waiting = deque([path] if path in self._libraries else [])
        while waiting:
            current = waiting.popleft()
            elf = self._libraries[current]
            if (elf.machine, elf.bits) != self._available.machine:
                continue
            found.sonames.update(self._missing(elf))
            if version := self._too_new(elf):
                found.glibc = max(found.glibc, version)
                found.sonames.add(GLIBC)
            for name in elf.needed:
                for inner in self._named(name, current):
                    if inner not in seen:
                        seen.add(inner)
                        waiting.append(inner)
        return found

    def _missing(self, elf: Elf) -> set[str]:
        if (elf.machine, elf.bits) != self._available.machine:
            return set()
        return {
            # A path is looked for as it is, which only its maker can have meant.
            name
            for name in elf.needed
            if name not in self._available.names
            and "/" not in name
            and not _LIBC.fullmatch(name)
            and not _DRIVER.fullmatch(name)
        }

    def _too_new(self, elf: Elf) -> tuple[int, int] | None:
        """The glibc that a library needs, where that is newer than the image's."""
        if self._available.glibc == (0, 0) or (elf.machine, elf.bits) != self._available.machine:
            return None
        wanted = [
            (int(match[1]), int(match[2]))
            for names in elf.versions.values()
            for name in names
            if (match := _GLIBC.fullmatch(name))
        ]
        newest = max(wanted, default=(0, 0))
        return newest if newest > (self._available.glibc or (0, 0)) else None
