"""Every package there is: the base's, and what its archives offer; read as far as somebody asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias

from gpuyard.building.system_packages.archives.debian_index import DebianIndex
from gpuyard.building.system_packages.control import parse_fields
from gpuyard.building.system_packages.resolving.package import DebianPackage
from gpuyard.building.system_packages.resolving.relations import Relation, single_relations
from gpuyard.building.system_packages.resolving.versions import version_key

#: An index, apt's priority and the number of its archive.
Index: TypeAlias = tuple[DebianIndex, int, int]


class Universe:
    """Packages by name and by what they provide.

    Args:
        installed: the base's.
        indexes: the archives'.
        arch: Debian's name of the architecture; packages for others aren't there.
        preferred: versions that are taken before newer ones, by name.
    """

    def __init__(
        self,
        installed: Iterable[DebianPackage],
        indexes: Sequence[Index],
        arch: str,
        preferred: Mapping[str, str],
    ) -> None:
        self.arch = arch
        self._preferred = preferred
        self.installed = {p.name: p for p in installed if p.architecture in (arch, "all")}
        self._indexes = indexes
        self._read: dict[str, list[DebianPackage]] = {}
        self._provided: defaultdict[str, set[str]] = defaultdict(set)
        for package in self.installed.values():
            for relation in package.provides:
                self._provided[relation.name].add(package.name)

    def versions(self, name: str) -> list[DebianPackage]:
        """What there is of a package: the base's first, then newer ones, the most wanted first."""
        if name not in self._read:
            base = self.installed.get(name)
            found: dict[str, DebianPackage] = {}
            for paragraph, pin, origin in self._paragraphs(name):
                package = DebianPackage(parse_fields(paragraph), pin=pin, origin=origin)
                if package.architecture not in (self.arch, "all") or package.version in found:
                    continue
                if base and version_key(package.version) <= version_key(base.version):
                    continue
                found[package.version] = package
            preferred = self._preferred.get(name)
            offered = sorted(
                found.values(),
                key=lambda p: (p.version == preferred, p.pin, version_key(p.version)),
                reverse=True,
            )
            self._read[name] = ([base] if base else []) + offered
        return self._read[name]

    def _paragraphs(self, name: str) -> Iterator[tuple[str, int, int]]:
        for index, pin, origin in self._indexes:
            for paragraph in index.paragraphs(name):
                yield paragraph, pin, origin

    def _providing(self, name: str) -> set[str]:
        found = {each for index, _, _ in self._indexes for each in index.providing(name)}
        return found | self._provided.get(name, set())

    def providers(self, relation: Relation) -> list[DebianPackage]:
        """Packages of other names that are what a relation asks for, the most usual first."""
        found = [
            package
            for name in sorted(self._providing(relation.name))
            if name != relation.name
            for package in self.versions(name)
            if package.meets(relation)
        ]
        return sorted(found, key=lambda p: (not p.installed, -p.pin, p.rank))

    def is_known(self, name: str) -> bool:
        """Whether there is a package, or something that provides it, of this name."""
        return bool(self.versions(name) or self._providing(name))

    def near(self, name: str) -> list[str]:
        """Names that somebody who wrote this one may have meant."""
        names = [*(name for index, _, _ in self._indexes for name in index.names), *self.installed]
        begins = sorted({n for n in names if n.startswith(name) or name.startswith(n + "-")}, key=len)[:3]
        return list(dict.fromkeys([*get_close_matches(name, names, 3, 0.75), *begins]))[:4]


def read_installed(paragraphs: Iterable[str]) -> Iterator[DebianPackage]:
    """Installed packages of dpkg's status, or of the files in status.d that bases without dpkg have."""
    for paragraph in paragraphs:
        fields = parse_fields(paragraph)
        state = fields.get("status", "install ok installed").split()
        if fields.get("package") and state[-1:] == ["installed"]:
            yield DebianPackage(fields, installed=True)


def provided_names(package: DebianPackage) -> set[str]:
    """Its name and those that it provides."""
    return {
        package.name,
        *(relation.name for relation in single_relations(package.fields.get("provides", ""))),
    }
