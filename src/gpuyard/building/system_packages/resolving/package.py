"""One package as an index or dpkg's database describes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gpuyard.building.system_packages.control import Fields
from gpuyard.building.system_packages.resolving.relations import (
    AnyOf,
    Relation,
    parse_relations,
    single_relations,
)

_PRIORITIES = ("required", "important", "standard", "optional", "extra")


@dataclass(frozen=True, eq=False)
class DebianPackage:
    """A version of a package; each is made once, and so equal only to itself.

    Attributes:
        fields: of its paragraph.
        installed: whether it is the base's.
        pin: apt's priority of where it is from: 500, or less where its archive says so.
        origin: which of the sources has it, by number.
    """

    fields: Fields
    installed: bool = False
    pin: int = 500
    origin: int = 0

    @cached_property
    def name(self) -> str:
        """Without an architecture."""
        return self.fields.get("package", "")

    @cached_property
    def version(self) -> str:
        """Debian's."""
        return self.fields.get("version", "")

    @property
    def architecture(self) -> str:
        """Such as amd64, or all."""
        return self.fields.get("architecture", "")

    @property
    def is_held(self) -> bool:
        """Whether whoever made the base wants just this version (dpkg's selection `hold`)."""
        return self.fields.get("status", "").partition(" ")[0] == "hold"

    @cached_property
    def depends(self) -> tuple[AnyOf, ...]:
        """What must be there with it. Recommended packages aren't installed."""
        return parse_relations(self.fields.get("pre-depends", "")) + parse_relations(
            self.fields.get("depends", "")
        )

    @cached_property
    def conflicts(self) -> tuple[Relation, ...]:
        """What can't be there beside it."""
        return single_relations(self.fields.get("conflicts", "")) + single_relations(
            self.fields.get("breaks", "")
        )

    @cached_property
    def provides(self) -> tuple[Relation, ...]:
        """Other names that it has, some with a version."""
        return single_relations(self.fields.get("provides", ""))

    @cached_property
    def replaces(self) -> tuple[Relation, ...]:
        """Whose files it may take over."""
        return single_relations(self.fields.get("replaces", ""))

    @property
    def rank(self) -> int:
        """0 for what a system can't be without, more for others."""
        priority = self.fields.get("priority", "")
        return _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)

    def meets(self, relation: Relation) -> bool:
        """Whether it is what a relation asks for, by its own name or by one that it provides."""
        if relation.arch not in ("", "any", "native", self.architecture):
            return False
        if relation.name == self.name and relation.takes(self.version):
            return True
        return any(
            other.name == relation.name and relation.takes_provided(other.version) for other in self.provides
        )

    def __str__(self) -> str:
        return f"{self.name} {self.version}"
