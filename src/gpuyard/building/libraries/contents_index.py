"""An archive's Contents file: which package has a file, for every package of a suite.

It is tens of megabytes, packed, so it is read only for a library that nobody here knows, and as a stream;
what it said is kept by its hash.
Format: Debian wiki, RepositoryFormat: `usr/lib/x86_64-linux-gnu/libGL.so.1  libs/libgl1`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from gpuyard import errors
from gpuyard.building.system_packages.archives.archives import open_archives
from gpuyard.building.system_packages.archives.sources import read_sources
from gpuyard.images.cache import Cache

_KIND = "apt-contents"
_BLOCK = 1 << 20
#: More than any line has: what is longer has no end.
_MOST_LINE = 1 << 16
#: Debian's names of folders for the libraries of an architecture.
TRIPLETS: Mapping[str, str] = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "armhf": "arm-linux-gnueabihf",
    "i386": "i386-linux-gnu",
}


async def search_archives(
    sonames: Collection[str],
    files: Mapping[str, bytes],
    arch: str,
    cache: Cache,
    environ: Mapping[str, str],
) -> dict[str, str]:
    """Which package of a base's archives has each library; those that none has are left out.

    Args:
        files: of the base, by path without a leading slash.
        arch: Debian's name of the architecture.
        cache: where indexes and answers are kept.
        environ: for mirrors and certificate authorities.

    Raises:
        UsageError: the mirrors can't be read.
        BuildError: an archive can't be reached, or isn't signed by a key of the base's.
    """
    found: dict[str, str] = {}
    triplet = TRIPLETS.get(arch, "")
    name = f"Contents-{arch}.gz"
    sources = read_sources(files, arch, environ)
    async with open_archives(
        sources, arch, files, cache, environ, datetime.now(UTC), lambda text: None
    ) as archives:
        for archive in archives.opened:
            # Debian has one for each component, Ubuntu one for all.
            for path in (*(f"{component}/{name}" for component in archive.source.components), name):
                left = [soname for soname in sonames if soname not in found]
                if left and (file := archive.release.files.get(path)):
                    fetched = await archives.fetch_file(archive, file)
                    found |= await asyncio.to_thread(
                        find_packages, fetched, file.sha256, left, triplet, cache
                    )
    return found


def find_packages(
    path: Path, sha256: str, sonames: Collection[str], triplet: str, cache: Cache
) -> dict[str, str]:
    """Which package has each library; those that none has are left out.

    Args:
        path: of the Contents file, packed with gzip.
        sha256: of that file.
        triplet: folder of the architecture's libraries.
        cache: where answers are kept.

    Raises:
        BuildError: the file can't be read.
    """
    name = f"{sha256}-{triplet}.json"
    known: dict[str, str] = {s: str(p) for s, p in (cache.read(_KIND, name) or {}).items()}
    if missing := set(sonames) - known.keys():
        known |= dict.fromkeys(missing, "") | _search(path, missing, triplet)
        cache.write(_KIND, name, known)
    return {soname: known[soname] for soname in sonames if known[soname]}


def _search(path: Path, sonames: Collection[str], triplet: str) -> dict[str, str]:
    words = b"|".join(re.escape(soname.encode()) for soname in sorted(sonames))
    line = re.compile(
        rb"^(?:usr/)?lib/(?:%s/)?(?P<soname>%s)[ \t]+(?P<packages>\S+)$" % (triplet.encode(), words),
        re.MULTILINE,
    )
    found: dict[str, str] = {}
    for block in _blocks(path):
        for match in line.finditer(block):
            packages = sorted(
                word.rpartition("/")[2] for word in match["packages"].decode("utf-8", "replace").split(",")
            )
            # Of several the plainest name: others are variants, or for other compilers.
            found.setdefault(match["soname"].decode(), min(packages, key=lambda each: (len(each), each)))
    return found


def _blocks(path: Path) -> Iterator[bytes]:
    """The file unpacked, in pieces that end with a line."""
    from isal import igzip, isal_zlib

    rest = b""
    try:
        with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
            while block := file.read(_BLOCK):
                head, newline, tail = (rest + block).rpartition(b"\n")
                if len(tail) > _MOST_LINE:
                    raise ValueError("a line has no end")
                yield head + newline
                rest = tail
    except (OSError, EOFError, ValueError, isal_zlib.error) as error:  # type: ignore[misc]
        raise errors.BuildError(f"the list of packages' files {path.name} can't be read: {error}") from error
    yield rest
