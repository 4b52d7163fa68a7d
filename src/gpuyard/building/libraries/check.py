"""Whether the wheels of an image can be imported: each finds the shared libraries that it needs.

What can't be imported at all fails the build; what a package may do without is a warning. Whoever is sure
of it names a library that is to be taken as there.
"""

from __future__ import annotations

import asyncio
import contextlib
import zipfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gpuyard import errors
from gpuyard.building.layers.planned_layer import BringsLibraries, PlannedLayer
from gpuyard.building.libraries.debian_packages import is_debian, packages_of
from gpuyard.building.libraries.missing import GLIBC, Available, Loader, Missing, missing_of, names_of
from gpuyard.building.libraries.module_imports import Import
from gpuyard.building.libraries.wheel_libraries import WheelLibraries, installed_path, read_wheel_libraries
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.python.wheels import wheel_path
from gpuyard.building.python.zip_file import ZipFile
from gpuyard.building.system_packages.locked import debian_arch
from gpuyard.building.work import Reporter
from gpuyard.elf import AARCH64, ARM, I386, X86_64, Elf
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.contents.kept import read_system
from gpuyard.images.contents.os_release import os_release

#: `e_machine` and bits of what a platform's Python loads.
_MACHINES = {"amd64": (X86_64, 64), "arm64": (AARCH64, 64), "386": (I386, 32), "arm": (ARM, 32)}
#: Distributions that are there without windows, too.
_WITHOUT_WINDOWS = {
    "opencv-python": "opencv-python-headless",
    "opencv-contrib-python": "opencv-contrib-python-headless",
}
_MOST_NAMES = 12
_LOOK_UP_TIMEOUT_S = 30.0


async def check_libraries(
    plan: PlatformPlan,
    layers: Iterable[PlannedLayer],
    shipped: Iterable[str],
    allowed: Iterable[str],
    cache: Cache,
    environ: Mapping[str, str],
    reporter: Reporter,
) -> None:
    """Looks at all wheels of an image; those that aren't on this machine are left out.

    Args:
        layers: that the build adds.
        shipped: paths of the application's libraries: who has one knows how it gets loaded.
        allowed: names of libraries that are taken as there.

    Raises:
        BuildError: a package can't be imported.
    """
    what = f"reading the base {plan.base.digest[7:19]}"
    system = await read_system(plan.base, cache, lambda done, total: reporter.bytes(what, done, total))
    libraries = dict(system.libraries)
    names = {path.rpartition("/")[2] for path in (*shipped, *system.library_links)}
    for layer in layers:
        if isinstance(layer, BringsLibraries):
            libraries |= await layer.read_libraries()
    release = os_release(system.files)

    async def look_up(sonames: Collection[str]) -> Mapping[str, str]:
        if not sonames or not is_debian(release):
            return {}
        reporter.bytes("looking for the packages that bring " + ", ".join(sorted(sonames)), 0, 0)
        from gpuyard.building.libraries.contents_index import search_archives  # Few builds come here.

        try:
            async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
                return await search_archives(
                    sonames, system.files, debian_arch(plan.platform), cache, environ
                )
        except (errors.GpuyardError, TimeoutError):
            return {}  # What is missing is to be told, whether or not the archives can be reached.

    check = _LibraryCheck(plan, release, libraries, names, frozenset(allowed), cache, look_up)
    await check.run(reporter.say)


@dataclass(frozen=True)
class _LibraryCheck:
    """The check of one platform's wheels.

    Attributes:
        release: of the base.
        libraries: of the image, but for those of wheels.
        named: further names by which libraries are there.
        allowed: names of libraries that are taken as there.
        look_up: gives the packages of libraries that nobody here knows.
    """

    plan: PlatformPlan
    release: Mapping[str, str]
    libraries: Mapping[str, Elf]
    named: Collection[str]
    allowed: frozenset[str]
    cache: Cache
    look_up: Callable[[Collection[str]], Awaitable[Mapping[str, str]]]

    async def run(self, say: Callable[[str], None]) -> None:
        """Looks at all wheels.

        Args:
            say: told of what isn't sure to fail.

        Raises:
            BuildError: a package can't be imported.
        """
        missing = await asyncio.to_thread(self.missing)
        for name in await asyncio.to_thread(self._allowed_in_vain):
            say(f"warning: --allow-missing-library {name} allows nothing: no wheel lacks it")
        if warned := [each for each in missing if each.certainty != Import.CERTAIN]:
            for each in warned:
                say(f"warning: {self._some(each)}; {self._remedy([each], {})}")
        if failing := [each for each in missing if each.certainty == Import.CERTAIN]:
            _, unknown = packages_of({name for each in failing for name in each.sonames}, self.release)
            known = await self.look_up([name for name in unknown if name != GLIBC])
            raise errors.BuildError(
                "; ".join(map(self._all, failing)),
                remedy=f"{self._remedy(failing, known)}; to build all the same, name what is missing with "
                "--allow-missing-library",
            )

    def _allowed_in_vain(self) -> list[str]:
        if not self.allowed:
            return []
        lacked = {name for each in replace(self, allowed=frozenset()).missing() for name in each.sonames}
        return sorted(self.allowed - lacked)

    def missing(self) -> list[Missing]:
        """What the wheels lack."""
        machine = _MACHINES.get(self.plan.platform.architecture)
        names = set(names_of(self.libraries, (), machine)) if machine else set()
        if machine is None or not names:
            return []  # Nobody knows what such a base has.
        found = [
            read_wheel_libraries(wheel, self.cache)
            for wheel in self.plan.wheels
            if wheel_path(self.cache, wheel).exists()
        ]
        for each in found:
            names.update(names_of(each.libraries, (), machine))
        available = Available(machine, names | {*self.named} | self.allowed, self._glibc())
        loader = Loader([each.libraries for each in found], available)
        return [one for each in found for one in self._missing(each, loader)]

    def _missing(self, found: WheelLibraries, loader: Loader) -> Sequence[Missing]:
        with contextlib.ExitStack() as stack:
            source = _WheelSource(found, self.cache, stack)
            return missing_of(found, loader, source.paths, source.read)

    def _glibc(self) -> tuple[int, int] | None:
        """Not known where it is to be taken as new enough."""
        contents: ImageContents = self.plan.contents
        if contents.libc == "musl" and GLIBC not in self.allowed:
            return None
        return (0, 0) if contents.libc != "glibc" or GLIBC in self.allowed else contents.libc_version

    def _all(self, missing: Missing) -> str:
        wheel = missing.wheel
        return f"{wheel.name} {wheel.version} can't be imported: {self._needs('it needs', missing)}"

    def _some(self, missing: Missing) -> str:
        modules = (
            f"{missing.module} and {missing.more} more need" if missing.more else f"{missing.module} needs"
        )
        needs = self._needs(modules, missing)
        return f"a part of {missing.wheel.name} {missing.wheel.version} can't be imported: {needs}"

    def _needs(self, what: str, missing: Missing) -> str:
        words: list[str] = []
        if sonames := [name for name in missing.sonames if name != GLIBC]:
            words.append(f"{_listed(sonames)}, which the image lacks")
        if missing.glibc != (0, 0):
            contents: ImageContents = self.plan.contents
            there = _version(contents.libc_version) if contents.libc == "glibc" else contents.libc
            words.append(f"glibc {_version(missing.glibc)}, and the base has {there}")
        return f"{what} {', and '.join(words)}"

    def _remedy(self, missing: Sequence[Missing], known: Mapping[str, str]) -> str:
        sonames = sorted({name for each in missing for name in each.sonames} - {GLIBC})
        words: list[str] = []
        if sonames:
            words.append(self._packages(sonames, known))
        if newer := [each for each in missing if each.glibc != (0, 0)]:
            base = "a newer base for glibc" if self.plan.contents.libc == "glibc" else "a base with glibc"
            built = any(each.wheel.source or each.wheel not in self.plan.lock.wheels for each in newer)
            instead = "build on a machine as old as the base" if built else "an older version"
            words.append(f"choose {base}, or {instead}")
        others = [other for each in missing if (other := _WITHOUT_WINDOWS.get(each.wheel.name))]
        if others:
            words.append(f"or require {_listed(others)} instead")
        return ", ".join(words)

    def _packages(self, sonames: Collection[str], known: Mapping[str, str]) -> str:
        packages, unknown = packages_of([name for name in sonames if name not in known], self.release)
        packages = sorted({*packages, *(known[name] for name in sonames if name in known)})
        brings = f"`system_packages: [{', '.join(packages)}]` brings" if packages else ""
        if not is_debian(self.release):
            debian = f" (Debian's packages {_listed(packages)})" if packages else ""
            return f"choose a base that has them{debian}"
        if not unknown:
            return f"{brings} what is missing"
        rest = f"find the package of {_listed(unknown)} with `apt-file search`"
        return f"{brings} some of it; {rest}" if brings else rest


class _WheelSource:
    """A wheel's files by their paths below site-packages, opened when somebody wants them."""

    def __init__(self, found: WheelLibraries, cache: Cache, stack: contextlib.ExitStack) -> None:
        self._wheel = found.wheel
        self._cache = cache
        self._stack = stack

    def paths(self) -> Iterable[str]:
        """All files."""
        return self._members

    def read(self, path: str) -> bytes:
        """One file's content."""
        return self._archive.read(self._members[path])

    @cached_property
    def _archive(self) -> ZipFile:
        return self._stack.enter_context(ZipFile(wheel_path(self._cache, self._wheel), self._wheel.file))

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        return {installed_path(member.filename): member for member in self._archive.members}


def _version(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _listed(names: Iterable[str]) -> str:
    """`a, b and c`, and how many more where there are many."""
    found = list(dict.fromkeys(names))
    if len(found) > _MOST_NAMES:
        return f"{', '.join(found[:_MOST_NAMES])} and {len(found) - _MOST_NAMES} more"
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
