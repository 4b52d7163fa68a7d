"""What a build would put into an image, and what it leaves out, told without building and without a network.

Files are those of the folder now; wheels, system packages and copies are those of the lock, if there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gpuyard.building.build import read_files
from gpuyard.building.layers.large_files import group_files, large_files, title_of_files
from gpuyard.building.layers.wheel_layers import group_wheels, title_of_wheels
from gpuyard.building.lock import PlatformLock, read_lock
from gpuyard.building.request import BuildRequest
from gpuyard.building.workdir.application import Application
from gpuyard.images.cache import Cache

APPLICATION = "application"
#: For wheels and files: few bases leave fewer, and how many one has is the network's to tell.
_LAYERS_LEFT = 64


@dataclass(frozen=True)
class ListedItem:
    """One thing that goes in.

    Attributes:
        size: of a file, or of a wheel or package as it is fetched, in bytes; None where nobody knows.
        layer: title of the layer that it goes into.
        kind: file, wheel, system package or copy.
        platforms: that it is for; empty for all.
    """

    size: int | None
    layer: str
    kind: str
    what: str
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listing:
    """All of one build.

    Attributes:
        items: largest first.
        left_out: paths in the folder, a folder's with a slash at its end, and why; sorted.
        notices, warnings: what the user should know of the files.
    """

    items: tuple[ListedItem, ...]
    left_out: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def layers(self) -> Mapping[str, tuple[int, int]]:
        """How many things are in each layer and their bytes, largest first."""
        found: dict[str, tuple[int, int]] = {}
        for item in self.items:
            count, size = found.get(item.layer, (0, 0))
            found[item.layer] = count + 1, size + (item.size or 0)
        return dict(sorted(found.items(), key=lambda entry: -entry[1][1]))


def list_build(request: BuildRequest, cache: Cache, environ: Mapping[str, str]) -> Listing:
    """What a build would take.

    Raises:
        UsageError: as of a build: a file looks like a secret, or can't be read, or the lock can't.
    """
    application = read_files(request, cache, environ)
    lock = read_lock(request.lock_path)
    wanted = [str(platform) for platform in request.platforms]
    locked = {name: lock.platforms[name] for name in wanted if name in lock.platforms} if lock else {}
    items = [*_files(application), *_locked(locked), *_copies(request)]
    return Listing(
        tuple(sorted(items, key=lambda item: (-(item.size or 0), item.what))),
        tuple(sorted(application.left_out)),
        (*application.notices, *_of_the_lock(request, wanted, locked)),
        application.warnings,
    )


def _files(application: Application) -> Iterator[ListedItem]:
    groups = group_files(large_files(application), _LAYERS_LEFT)
    layers = {path: title_of_files(paths) for paths in groups for path in paths}
    for path, state in application.files:
        yield ListedItem(state.st_size, layers.get(path, APPLICATION), "file", path)


def _locked(locked: Mapping[str, PlatformLock]) -> Iterator[ListedItem]:
    found: dict[ListedItem, list[str]] = {}
    for platform, lock in locked.items():
        for item in _of_platform(lock):
            found.setdefault(item, []).append(platform)
    for item, platforms in found.items():
        yield ListedItem(item.size, item.layer, item.kind, item.what, tuple(platforms))


def _of_platform(lock: PlatformLock) -> Iterator[ListedItem]:
    if packages := lock.system_packages:
        from gpuyard.building.layers.system_layer import title_of_packages  # Few builds need it.

        for package in packages:
            yield ListedItem(package.size, title_of_packages(packages), "system package", str(package))
    for wheels in group_wheels(lock.wheels, _LAYERS_LEFT):
        for wheel in wheels:
            yield ListedItem(wheel.size, title_of_wheels(wheels), "wheel", wheel.file)


def _copies(request: BuildRequest) -> Iterator[ListedItem]:
    for copied in request.copies:
        yield ListedItem(None, str(copied), "copy", str(copied))


def _of_the_lock(
    request: BuildRequest, wanted: Sequence[str], locked: Mapping[str, PlatformLock]
) -> Iterator[str]:
    if not request.requirements and not request.system_packages:
        return
    name = request.lock_path.name
    if missing := [platform for platform in wanted if platform not in locked]:
        yield f"{name} has nothing for {', '.join(missing)} yet: which packages go in, a build finds out"
    else:
        yield f"packages are those of {name}; where what is required changed, a build chooses anew"
