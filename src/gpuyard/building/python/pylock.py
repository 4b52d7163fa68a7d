"""Locks that other tools wrote, as requirements: pylock.toml (PEP 751), and uv.lock by way of `uv export`.

What they lock is taken as it is, each wheel by its hash; nothing is resolved and no index is asked.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gpuyard import errors
from gpuyard.building.python.platform_tags import environment, tags
from gpuyard.building.python.sources import ALL_SOURCES, Source, without_login
from gpuyard.building.python.uv_process import run_uv
from gpuyard.building.python.wheels import Wheel, wheel_file
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.oci import Platform
from gpuyard.regular_files import read_regular

if TYPE_CHECKING:
    from packaging.pylock import Package, Pylock

UV_LOCK = "uv.lock"

_PYLOCK = re.compile(r"pylock\.(?:[^.]+\.)?toml")
_EXPORT = ("export", "--frozen", "--format", "pylock.toml", "--no-emit-project", "--no-dev", "--no-header")
#: The base's Python is known by its minor version: what a lock asks of it may ask for any of these.
_PATCHES = (0, 99)


def is_lock(requirements: Path) -> bool:
    """Whether a file given as requirements is such a lock, by its name."""
    return requirements.name == UV_LOCK or bool(_PYLOCK.fullmatch(requirements.name))


def lock_files(requirements: Path) -> list[Path]:
    """What the lock's content is in; uv.lock is read with the pyproject.toml beside it."""
    return [requirements, _project(requirements)] if requirements.name == UV_LOCK else [requirements]


#: Wheels with where each is, and sources of those that there are none of.
Found: TypeAlias = "tuple[dict[Wheel, str], dict[Source, str]]"


async def locked_wheels(
    requirements: Path,
    platform: Platform,
    contents: ImageContents,
    environ: Mapping[str, str],
    builds: Collection[str] = (),
) -> Found:
    """What a lock has for a base, each with its URL or path: wheels, and sources where these may be built.

    Raises:
        UsageError: it can't be read as a lock.
        ResolveError: it isn't made for the base's Python or platform.
        BuildError: it has no wheel for a package, or none with a hash.
    """
    from packaging.pylock import PylockSelectError

    text = await _text(requirements, environ)
    lock = await asyncio.to_thread(_parse, requirements, text)
    assert contents.python is not None
    place = f"{requirements.name} doesn't fit the base (Python {contents.python.version}, {platform})"
    lock = _for_minor(lock, contents.python.minor, place)
    env = environment(platform, contents.python.minor)
    try:
        # packaging's own type lists every variable; the lock's markers see no others than these.
        found = list(lock.select(environment=env, tags=tags(platform, contents)))  # type: ignore[arg-type]
    except PylockSelectError as error:
        raise errors.ResolveError(
            f"{place}: {error}", remedy="lock for the base's Python and platform, or choose another base"
        ) from error
    # Projects of this machine are found, and read, by themselves.
    pairs = [(package, source) for package, source in found if package.directory is None]
    return _sorted_out(pairs, requirements, builds)


def resolved_wheels(pylock: Path, builds: Collection[str] = ()) -> Found:
    """What a pylock.toml has that uv made for one base: the first wheel of each package, which it likes best.

    Raises:
        BuildError: a package comes without a wheel and mayn't be built, or without a hash.
    """
    packages = _parse(pylock, _read(pylock)).packages
    pairs = [
        (package, package.wheels[0] if package.wheels else package.archive or package.sdist or package.vcs)
        for package in packages
    ]
    return _sorted_out(pairs, pylock, builds)


def _sorted_out(pairs: Iterable[tuple[Package, object]], pylock: Path, builds: Collection[str]) -> Found:
    wheels: dict[Wheel, str] = {}
    sources: dict[Source, str] = {}
    for package, found in pairs:
        source = _source(package, found, pylock) if ALL_SOURCES in builds or package.name in builds else None
        if source:
            sources[source[0]] = source[1]
        else:
            wheel, where = _wheel(package, found, pylock)
            wheels[wheel] = where
    return wheels, sources


def _source(package: Package, found: object, pylock: Path) -> tuple[Source, str] | None:
    """What a package is built of, and where that is; None of one that has a wheel."""
    from packaging.pylock import PackageArchive, PackageSdist, PackageVcs

    if isinstance(found, PackageVcs) and found.url:
        url, login = without_login(found.url)
        return Source(url, found.commit_id, found.subdirectory or "", login=login), url
    if not isinstance(found, PackageArchive | PackageSdist):
        return None
    where = found.url or str(pylock.absolute().parent / (found.path or ""))
    file = wheel_file(where)
    if file.endswith(".whl"):
        return None
    sha256 = found.hashes.get("sha256", "")
    # Where an index has its archives is the index's business, as with wheels.
    address = file if isinstance(found, PackageSdist) else without_login(where)[0]
    return Source(address, sha256=sha256), where


def all_wheels(pylock: Path, builds: Collection[str] = ()) -> dict[Wheel, str]:
    """Every wheel of each package in a pylock.toml that uv made; raises as `resolved_wheels` does."""
    pairs = [
        (package, source)
        for package in _parse(pylock, _read(pylock)).packages
        for source in package.wheels or (package.archive or package.sdist or package.vcs,)
    ]
    return _sorted_out(pairs, pylock, builds)[0]


async def _text(requirements: Path, environ: Mapping[str, str]) -> str:
    if requirements.name != UV_LOCK:
        return _read(requirements)
    if not _project(requirements).is_file():
        raise errors.UsageError(
            f"{requirements} has no pyproject.toml beside it, which `uv export` needs",
            remedy="name the uv.lock in its project's folder, or export it: uv export --format pylock.toml",
        )
    done = await run_uv(_EXPORT, folder=requirements.absolute().parent, environ=environ)
    if done.code:
        raise errors.UsageError(
            f"uv can't export {requirements}:\n{done.err}", remedy="lock the project anew: uv lock"
        )
    return done.out


def _project(requirements: Path) -> Path:
    return requirements.with_name("pyproject.toml")


def _read(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't text in UTF-8"
        raise errors.UsageError(
            f"can't read the requirements {path}: {reason}", remedy="name a lock that is there"
        ) from error


def _parse(requirements: Path, text: str) -> Pylock:
    from packaging.pylock import Pylock, PylockValidationError

    try:
        return Pylock.from_dict(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise errors.UsageError(
            f"{requirements} can't be read as a lock: {error}",
            remedy="make it anew with the tool that wrote it",
        ) from error


def _for_minor(lock: Pylock, minor: int, place: str) -> Pylock:
    """The lock without its own bound on Python, once that has been held against the base's minor version."""
    bound = lock.requires_python
    if bound is not None and not any(bound.contains(f"3.{minor}.{patch}") for patch in _PATCHES):
        raise errors.ResolveError(
            f"{place}: it requires Python {bound}",
            remedy="lock for the base's Python, or choose another base",
        )
    return replace(lock, requires_python=None)


def _wheel(package: Package, source: object, requirements: Path) -> tuple[Wheel, str]:
    from packaging.pylock import PackageArchive, PackageWheel

    name = f"{package.name} {package.version or ''}".strip()
    if isinstance(source, PackageArchive):
        file = wheel_file(source.path or source.url or "")
    elif isinstance(source, PackageWheel):
        file = wheel_file(source.filename)
    else:
        file = ""
    if not file.endswith(".whl") or not isinstance(source, PackageWheel | PackageArchive):
        raise errors.BuildError(
            f"{requirements.name} has no wheel of {name} for this base",
            remedy=f"lock a version that has one, or build it of its sources: --build-sources {package.name}",
        )
    where = source.url or str(requirements.absolute().parent / (source.path or ""))
    if "\0" in where:
        raise errors.UsageError(
            f"{requirements} can't be read as a lock: the path of {name} has a byte 0 in it",
            remedy="make it anew with the tool that wrote it",
        )
    sha256 = {kind.lower(): value.lower() for kind, value in source.hashes.items()}.get("sha256", "")
    return Wheel(file, sha256, source.size or 0), where
