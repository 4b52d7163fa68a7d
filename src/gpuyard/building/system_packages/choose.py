"""From names that a user wrote to packages with hashes: the base's archives are opened, and chosen from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gpuyard import errors
from gpuyard.building.system_packages.archives.archives import PackageArchive, open_archives
from gpuyard.building.system_packages.archives.debian_index import DebianIndex
from gpuyard.building.system_packages.archives.sources import AptSources, read_sources
from gpuyard.building.system_packages.locked import SystemPackage
from gpuyard.building.system_packages.refused import refuse
from gpuyard.building.system_packages.resolving.package import DebianPackage
from gpuyard.building.system_packages.resolving.solve import Asked, Chosen, solve
from gpuyard.building.system_packages.resolving.universe import Universe, read_installed
from gpuyard.building.system_packages.unpacking.dpkg_database import status_paragraphs
from gpuyard.images.cache import Cache
from gpuyard.images.contents.os_release import os_release

_ASKED = re.compile(r"(?P<name>[a-z0-9][a-z0-9.+-]*)(?::(?P<arch>[a-z0-9-]+))?(?:=(?P<version>[\w.+~:-]+))?")


@dataclass(frozen=True)
class Chooser:
    """Chooses packages for one base.

    Attributes:
        base: how the user calls the base.
        files: of the base, by path without a leading slash.
        arch: Debian's name of the architecture.
        say: told what the user should read.
    """

    base: str
    files: Mapping[str, bytes]
    arch: str
    cache: Cache
    environ: Mapping[str, str]
    say: Callable[[str], None]

    def sources(self) -> AptSources:
        """Where the base gets packages from.

        Raises:
            BuildError: the base isn't Debian's or Ubuntu's, or names no archive.
        """
        if not status_paragraphs(self.files):
            raise errors.BuildError(
                f"the base {self.base} has no packages of Debian's or Ubuntu's: {self._system()}",
                remedy="leave out system packages, or choose a base of Debian or Ubuntu",
            )
        sources = read_sources(self.files, self.arch, self.environ)
        for text in sources.skipped:
            self.say(f"source of packages not used: {text}")
        if ignored := [path for path in sorted(self.files) if path.startswith("etc/apt/preferences")]:
            self.say(f"preferences of the base's apt aren't followed: /{', /'.join(ignored)}")
        if not sources.found:
            raise errors.BuildError(
                f"the base {self.base} names no archive of packages for {self.arch} in /etc/apt",
                remedy="choose a base with its distribution's sources",
            )
        return sources

    @property
    def distribution(self) -> str:
        """Such as debian or ubuntu."""
        return os_release(self.files).get("ID", "").lower() or "debian"

    def _system(self) -> str:
        name = os_release(self.files).get("PRETTY_NAME")
        return f"it is {name}" if name else "it doesn't say what it is"

    async def choose(
        self, words: Sequence[str], now: datetime, preferred: Sequence[SystemPackage]
    ) -> tuple[SystemPackage, ...]:
        """The packages to unpack, by name.

        Args:
            words: `NAME` or `NAME=VERSION`, as the user wrote them.
            now: against which an index is too old or too new.
            preferred: versions of an older lock, which stay where they are still to be had.

        Raises:
            UsageError: a word can't be read.
            BuildError: an archive can't be reached, or isn't signed by a key of the base's.
            ResolveError: there is no such package, or they don't go together.
        """
        asked = [parse_asked(word, self.arch) for word in words]
        sources = self.sources()
        async with open_archives(
            sources, self.arch, self.files, self.cache, self.environ, now, self.say
        ) as archives:
            found = await archives.fetch_indexes(f"binary-{self.arch}/Packages")
            found += await archives.fetch_indexes("binary-all/Packages", of=lambda r: r.all_is_apart)
        return await asyncio.to_thread(self._chosen, asked, found, preferred)

    def _chosen(
        self,
        asked: Sequence[Asked],
        indexes: Sequence[tuple[PackageArchive, DebianIndex]],
        preferred: Sequence[SystemPackage],
    ) -> tuple[SystemPackage, ...]:
        installed = list(read_installed(status_paragraphs(self.files)))
        universe = Universe(
            installed,
            [(index, archive.release.pin, archive.number) for archive, index in indexes],
            self.arch,
            {package.name: package.version for package in preferred},
        )
        chosen = solve(universe, asked)
        for package in chosen.packages:
            refuse(package.name, chosen.chains[package.name])
        for each in asked:
            if (there := universe.installed.get(each.name)) and each.name not in chosen.chains:
                self.say(f"{there} comes with the base and is not installed again")
        self._tell_upgrades(universe, chosen, installed, {each.name for each in asked if each.version})
        names = {each.name for each in asked}
        return tuple(
            SystemPackage(
                package.name,
                package.version,
                package.architecture,
                int(package.fields.get("size", "0")),
                package.fields.get("sha256", "").lower(),
                package.fields.get("filename", "").removeprefix("./"),
                package.name in names or chosen.chains[package.name] == (package.name,),
            )
            for package in chosen.packages
        )

    def _tell_upgrades(
        self, universe: Universe, chosen: Chosen, installed: Sequence[DebianPackage], named: Collection[str]
    ) -> None:
        """Says which of the base's packages are replaced.

        One that is there for two architectures stays, and one on hold, unless its version is among the named.
        """
        foreign = {p.name: p.architecture for p in installed if p.architecture not in (self.arch, "all")}
        for package in chosen.packages:
            old = universe.installed.get(package.name)
            if not old:
                continue
            chain = " → ".join(chosen.chains[package.name])
            if package.name in foreign and package.fields.get("multi-arch") == "same":
                raise errors.ResolveError(
                    f"{chain} needs {package}, and the base has {old} for {foreign[package.name]} too, which "
                    "must have the same version",
                    remedy=f"use a newer base, or one without {package.name}:{foreign[package.name]}",
                )
            if old.is_held and package.name not in named:
                raise errors.ResolveError(
                    f"{chain} needs {package}, and the base holds {old} (apt-mark hold)",
                    remedy=f"ask for {package.name}={package.version} by name to replace it all the same, or "
                    "use a newer base",
                )
            self.say(f"{package.name} of the base is replaced: {old.version} → {package.version} ({chain})")


def parse_asked(word: str, arch: str) -> Asked:
    """What a user wrote; raises UsageError."""
    match = _ASKED.fullmatch(word.strip())
    if not match or match["arch"] not in (None, arch, "any", "native"):
        raise errors.UsageError(
            f"{word!r} is not a system package",
            remedy="write the name as apt has it, such as libgl1, or NAME=VERSION; packages for another "
            "architecture can't be installed",
        )
    return Asked(match["name"], match["version"] or "")
