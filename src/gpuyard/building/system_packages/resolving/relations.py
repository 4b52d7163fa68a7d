"""Relations between packages: `libc6 (>= 2.34), default-mta | mail-transport-agent` (deb-control(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from gpuyard.building.system_packages.resolving.versions import meets

_RELATION = re.compile(
    r"(?P<name>[a-zA-Z0-9][a-zA-Z0-9.+-]*)(?::(?P<arch>[a-z0-9-]+))?"
    r"\s*(?:\(\s*(?P<operator><<|<=|>=|>>|=|<|>)\s*(?P<version>[^\s)]+)\s*\))?\s*(?:\[[^]]*\]|<[^>]*>|\s)*"
)


@dataclass(frozen=True)
class Relation:
    """One package by name, and which versions of it.

    Attributes:
        arch: what follows the name after a colon, such as any; mostly empty.
        operator: empty for any version.
    """

    name: str
    arch: str = ""
    operator: str = ""
    version: str = ""

    def takes(self, version: str) -> bool:
        """Whether a package of this version is meant."""
        return meets(version, self.operator, self.version)

    def takes_provided(self, version: str) -> bool:
        """Whether a package that provides the name in this version is meant: without one, only any."""
        return not self.operator or (bool(version) and self.takes(version))

    def __str__(self) -> str:
        arch = f":{self.arch}" if self.arch else ""
        return f"{self.name}{arch} ({self.operator} {self.version})" if self.operator else self.name + arch


#: Alternatives: one of them must hold.
AnyOf: TypeAlias = tuple[Relation, ...]


@lru_cache(maxsize=65536)
def parse_relations(text: str) -> tuple[AnyOf, ...]:
    """What a field such as Depends holds; what can't be read in it is left out."""
    groups = []
    for part in text.replace("\n", " ").split(","):
        group = tuple(
            Relation(match["name"], match["arch"] or "", match["operator"] or "", match["version"] or "")
            for word in part.split("|")
            if (match := _RELATION.fullmatch(word.strip()))
        )
        if group:
            groups.append(group)
    return tuple(groups)


def single_relations(text: str) -> tuple[Relation, ...]:
    """What a field without alternatives holds, such as Conflicts or Provides."""
    return tuple(relation for group in parse_relations(text) for relation in group)
