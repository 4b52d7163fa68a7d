"""The shared libraries and extension modules in a wheel, read once on a machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gpuyard.building.python.wheels import Wheel, wheel_path
from gpuyard.building.python.zip_file import ZipFile
from gpuyard.elf import Elf, read_elf
from gpuyard.images.cache import Cache
from gpuyard.images.contents.system import is_library

#: The number changes with what is kept of a wheel.
_KIND = "wheel-libraries-1"
#: Folders of a wheel's `.data` that are installed where the rest of it is.
_SITE = re.compile(r"[^/]+\.data/(?:purelib|platlib)/")


@dataclass(frozen=True)
class WheelLibraries:
    """Paths are below site-packages.

    Attributes:
        libraries: every shared library and extension module, by path.
    """

    wheel: Wheel
    libraries: Mapping[str, Elf]


def read_wheel_libraries(wheel: Wheel, cache: Cache) -> WheelLibraries:
    """What a wheel in the cache has, from what is remembered of it or by reading it.

    Raises:
        ImageDamaged: it isn't readable.
    """
    if wheel.file.endswith("-any.whl"):
        return WheelLibraries(wheel, {})
    kept = cache.read(_KIND, f"{wheel.sha256}.json")
    try:
        if kept:
            return WheelLibraries(wheel, {path: Elf.of(raw) for path, raw in kept["libraries"].items()})
    except (KeyError, TypeError, ValueError, AttributeError):  # a damaged entry is as good as none
        pass
    with ZipFile(wheel_path(cache, wheel), wheel.file) as archive:
        found = dict(_read(archive))
    raw: dict[str, Any] = {"libraries": {path: asdict(elf) for path, elf in found.items()}}
    cache.write(_KIND, f"{wheel.sha256}.json", raw)
    return WheelLibraries(wheel, found)


def _read(archive: ZipFile) -> Iterator[tuple[str, Elf]]:
    for member in archive.members:
        path = installed_path(member.filename)
        if is_library(f"/{path}") and (elf := read_elf(_ReadablePieces(archive.pieces(member)))):
            yield path, elf


def installed_path(name: str) -> str:
    """Where a wheel's member lies below site-packages."""
    return _SITE.sub("", name, count=1)


class _ReadablePieces:
    """Pieces as a file that is read from its beginning."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        """See `Readable`."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
