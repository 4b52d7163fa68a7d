"""Wheels that come from files of this machine: `./dist/x.whl`, `--find-links dist`.

The lock says of each where it was. A build looks there again, so a wheel that was made anew under its old
name is noticed, and no index is asked for a package of that name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard.building.python.sources import Source
from gpuyard.building.python.wheels import Wheel, local_path
from gpuyard.building.workdir.file_digests import FileDigests
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import normalise

if TYPE_CHECKING:
    from packaging.version import Version


def with_paths(sources: Mapping[Wheel, str], folder: Path) -> dict[Wheel, str]:
    """The same, the local ones with their path as it is seen from the lock's folder.

    A path that shares nothing with the folder stays absolute.
    """
    found = {}
    for wheel, source in sources.items():
        path = local_path(source)
        if path is not None:
            path = Path(os.path.normpath(folder / path))
            found[replace(wheel, path=_seen_from(folder, path))] = str(path)
        else:
            found[wheel] = source
    return found


def _seen_from(folder: Path, path: Path) -> str:
    shared = os.path.commonpath([path, folder]) != "/"
    return os.path.relpath(path, folder) if shared else str(path)


def archives_with_paths(sources: Mapping[Source, str], folder: Path) -> dict[Source, str]:
    """The same for what wheels are built of, which is told from an index's archive by its slash."""
    found = {}
    for source, where in sources.items():
        if not source.commit and "/" in source.url and (path := local_path(source.url)):
            path = Path(os.path.normpath(folder / path))
            seen = _seen_from(folder, path)
            found[replace(source, url=seen if "/" in seen else f"./{seen}")] = str(path)
        else:
            found[source] = where
    return found


async def changed(
    wheels: Iterable[Wheel], folder: Path, cache: Cache, progress: Callable[[int, int], None]
) -> list[str]:
    """What became of local wheels, and of local archives of sources, since they were locked, in words.

    Args:
        folder: of the lock.
        cache: remembers what those that didn't change hold.
        progress: told of bytes read, and to be read.

    Raises:
        BuildError: one can't be read, or is being written.
    """
    said = []
    local = dict(_local(wheels))
    paths = {name: Path((folder / name).resolve()) for name in local}
    sizes = {str(path): path.stat().st_size for path in paths.values() if path.is_file()}
    hashes = await FileDigests(folder, cache, progress, "wheels").digests(sizes)
    for name, sha256 in local.items():
        if (found := hashes.get(str(paths[name]))) is None:
            said.append(f"{name} is there no longer")
        elif found != sha256:
            said.append(f"{name} was made anew")
    return said


def _local(wheels: Iterable[Wheel]) -> Iterator[tuple[str, str]]:
    """Path and hash of each file of this machine that wheels are or were built of."""
    for wheel in sorted(set(wheels)):
        source = Source.of_text(wheel.source)
        if wheel.path:
            yield wheel.path, wheel.sha256
        elif source and source.sha256 and "/" in source.url and local_path(source.url):
            yield source.url, source.sha256


def newer(wheels: Iterable[Wheel], folder: Path, asked: Mapping[str, Iterable[str]]) -> list[str]:
    """Where a wheel's folder has a newer one that the requirements allow, too: `mine 1.0, and dist has 1.1`.

    Args:
        wheels: local ones of a lock.
        folder: of the lock.
        asked: requirements by name; who asks for a file by its place wants no other.
    """
    from packaging.version import InvalidVersion, Version

    said = []
    for wheel in sorted(wheels):
        place = (folder / wheel.path).parent
        for file in sorted(path.name for path in place.iterdir()) if place.is_dir() else ():
            name, _, rest = file.partition("-")
            try:
                found = Version(rest.partition("-")[0])
                is_newer = found > Version(wheel.version)
            except InvalidVersion:
                continue
            allowed = all(_allows(text, found) for text in asked.get(wheel.name, ()))
            if is_newer and allowed and file.endswith(".whl") and normalise(name) == wheel.name:
                said.append(f"{wheel.name} {wheel.version}, and {Path(wheel.path).parent} has {found}")
    return list(dict.fromkeys(said))


def _allows(requirement: str, version: Version) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        return False
    return parsed.url is None and parsed.specifier.contains(version)
