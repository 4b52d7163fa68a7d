"""Wheels by name, size and hash, and the verified cache that they are kept in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gpuyard import errors
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import normalise

#: A wheel above this size gets a layer of its own: torch, the CUDA libraries, triton.
LARGE_BYTES = 50_000_000

_KIND = "wheels"
_FILE = re.compile(r"(?P<name>[^-/]+)-(?P<version>[^-/]+)(?:-\d[^-/]*)?-[^-/]+-[^-/]+-[^-/]+\.whl")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class Wheel:
    """One wheel of a lock.

    Attributes:
        file: its file name, which says name, version and tags.
        sha256: hex digits of the file's hash.
        size: of the file in bytes; 0 when its index doesn't say.
        path: of the file here that it is, as seen from the lock's folder; empty when an index has it.
        source: what it was built of on this machine (see `sources.Source.text`); empty when it wasn't.
    """

    file: str
    sha256: str
    size: int = 0
    path: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file):
            raise errors.BuildError(f"{self.file!r} is not the file name of a wheel")
        if not _SHA256.fullmatch(self.sha256):
            raise errors.BuildError(
                f"{self.file} has no sha256 hash, so nobody could tell it from another file",
                remedy="use an index that gives hashes, then build with --upgrade",
            )

    @property
    def name(self) -> str:
        """Normalised name of the distribution."""
        return normalise(self.file.partition("-")[0])

    @property
    def version(self) -> str:
        """As the file name says it."""
        return self.file.split("-")[1]

    @property
    def large(self) -> bool:
        """Whether it gets a layer of its own."""
        return self.size > LARGE_BYTES


def wheel_file(source: str) -> str:
    """The file's name at the end of a URL or a path, of which a URL writes `+` as `%2B`."""
    return unquote(source.partition("#")[0].partition("?")[0]).rpartition("/")[2]


def wheel_path(cache: Cache, wheel: Wheel) -> Path:
    """Where a wheel is once it is fetched."""
    return cache.path(_KIND, f"{wheel.sha256}.whl")


def keep_wheel(cache: Cache, path: Path) -> Wheel:
    """A wheel that was built on this machine, put into the cache; raises CacheError."""
    import shutil  # Few builds make wheels, and it costs start-up time.

    with path.open("rb") as source:
        wheel = Wheel(path.name, hashlib.file_digest(source, "sha256").hexdigest(), path.stat().st_size)
        source.seek(0)
        with cache.new_file(_KIND, f"{wheel.sha256}.whl") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    return wheel


def missing_wheels(cache: Cache, wheels: Sequence[Wheel]) -> list[Wheel]:
    """Those that must be fetched: what lies in the cache is held against the hash that it is named by."""
    with cache.reporting():
        return [wheel for wheel in wheels if not _is_whole(wheel_path(cache, wheel), wheel)]


def _is_whole(path: Path, wheel: Wheel) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == wheel.sha256:
            return True
    path.unlink(missing_ok=True)
    return False


def check_size(wheel: Wheel, path: Path) -> None:
    """Raises BuildError where a lock gives another size, by which wheels are spread over layers."""
    if wheel.size and (size := path.stat().st_size) != wheel.size:
        raise errors.BuildError(
            f"{wheel.file} has {size} bytes, and the lock says {wheel.size}",
            remedy="restore the lock as it was written, or lock anew by what wrote it",
        )


def local_path(source: str) -> Path | None:
    """The path of a source that is a file here; None of one that an index has."""
    if source.startswith("file://"):
        return Path(unquote(urlsplit(source).path))
    return None if "://" in source else Path(source)
