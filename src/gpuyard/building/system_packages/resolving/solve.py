"""Which packages an image needs beside its base's, found by resolvelib.

What the base has in a fitting version stays. A package of the base's is replaced by a newer one only where
something else demands it, nothing is ever removed, and recommended packages aren't installed. Of alternatives
the first that can be is taken, as apt does it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, ResolutionTooDeep, Resolver

from gpuyard import errors
from gpuyard.building.system_packages.resolving.package import DebianPackage
from gpuyard.building.system_packages.resolving.relations import AnyOf, Relation
from gpuyard.building.system_packages.resolving.universe import Universe, provided_names

_MOST_ROUNDS = 20_000


@dataclass(frozen=True)
class _Absent:
    """That a package isn't there."""

    name: str


@dataclass(frozen=True)
class _WayToMeet:
    """One way to meet alternatives: a package by name that is what the relation asks for."""

    group: AnyOf
    relation: Relation
    name: str


_Candidate: TypeAlias = DebianPackage | _Absent | _WayToMeet
_Id: TypeAlias = str | AnyOf


@dataclass(frozen=True, eq=False)
class _PackageRule:
    """What must hold of a package.

    Attributes:
        text: for messages.
        must_be: whether it must be there; else it may be absent.
    """

    name: str
    takes: Callable[[DebianPackage], bool]
    text: str
    must_be: bool = True


@dataclass(frozen=True, eq=False)
class _OneOf:
    """Alternatives, one of which must hold."""

    group: AnyOf

    @property
    def text(self) -> str:
        return " | ".join(map(str, self.group))


_Requirement: TypeAlias = _PackageRule | _OneOf


@dataclass(frozen=True)
class Asked:
    """A package that the user names: `NAME` or `NAME=VERSION`."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.version}" if self.version else self.name


@dataclass(frozen=True)
class Chosen:
    """What is to be installed.

    Attributes:
        packages: by name, sorted.
        chains: for each, how it came in: from what was asked for to itself.
    """

    packages: tuple[DebianPackage, ...]
    chains: Mapping[str, tuple[str, ...]]


def solve(universe: Universe, asked: Sequence[Asked]) -> Chosen:
    """What has to be installed so that all that was asked for is there.

    Raises:
        ResolveError: there is no such set; it says which package is in the way, and who asked for it.
    """
    relevant = set(universe.installed)
    while True:
        provider = _Provider(universe, relevant)
        roots = [_root(universe, each) for each in asked]
        try:
            found = Resolver(provider, BaseReporter()).resolve(roots, max_rounds=_MOST_ROUNDS)
        except ResolutionImpossible as error:
            raise _impossible(provider, error) from error
        except ResolutionTooDeep as error:
            raise errors.ResolveError(
                "no set of system packages was found that goes together",
                remedy="name fewer, or name versions (NAME=VERSION)",
            ) from error
        packages = [p for p in found.mapping.values() if isinstance(p, DebianPackage)]
        # Packages that nobody needs are in nobody's way: only conflicts that come about are looked at.
        if not (clashing := _clashing(packages) - relevant):
            break
        relevant |= clashing
    new = sorted((p for p in packages if not p.installed), key=lambda p: p.name)
    return Chosen(tuple(new), {p.name: provider.chain(p.name) for p in new})


def _root(universe: Universe, asked: Asked) -> _PackageRule:
    """The rule of what a user asked for; a name that only one package provides stands for that one."""
    versions = universe.versions(asked.name)
    if not versions:
        providers = list(dict.fromkeys(p.name for p in universe.providers(Relation(asked.name))))
        if len(providers) == 1 and not asked.version:
            return _root(universe, Asked(providers[0]))
        if providers:
            raise errors.ResolveError(
                f"{asked.name} is no package of its own: {', '.join(providers[:8])} provide it",
                remedy="name one of them",
            )
        near = universe.near(asked.name)
        raise errors.ResolveError(
            f"the base's archives have no package {asked.name}",
            remedy=f"did you mean {' or '.join(near)}?"
            if near
            else "see that the name is the distribution's",
        )
    if asked.version and not any(p.version == asked.version for p in versions):
        there = ", ".join(p.version for p in versions)
        raise errors.ResolveError(
            f"{asked.name} isn't there in version {asked.version}, only in {there}",
            remedy="name one of those; an older one than the base's can't be installed",
        )
    return _PackageRule(asked.name, lambda p: not asked.version or p.version == asked.version, str(asked))


def _clashing(packages: Sequence[DebianPackage]) -> set[str]:
    """Names of packages that another of them can't have beside it."""
    by_name: defaultdict[str, list[DebianPackage]] = defaultdict(list)
    for package in packages:
        for name in provided_names(package):
            by_name[name].append(package)
    return {
        other.name
        for package in packages
        for relation in package.conflicts
        for other in by_name.get(relation.name, ())
        if other is not package and other.meets(relation)
    }


class _Provider(AbstractProvider[_Requirement, _Candidate, _Id]):
    """Tells resolvelib of packages: names are identifiers, and so are groups of alternatives."""

    def __init__(self, universe: Universe, relevant: set[str]) -> None:
        self._universe = universe
        self._relevant = relevant
        self._parents: dict[_Id, _Candidate] = {}
        self._providing: defaultdict[str, set[str]] = defaultdict(set)
        for name in relevant:
            for package in universe.versions(name):
                for provided in provided_names(package):
                    self._providing[provided].add(name)
        self._needing: defaultdict[str, list[DebianPackage]] = defaultdict(list)
        self._refusing: defaultdict[str, list[tuple[DebianPackage, Relation]]] = defaultdict(list)
        for package in universe.installed.values():
            for group in package.depends:
                for relation in group:
                    self._needing[relation.name].append(package)
            for relation in package.conflicts:
                self._refusing[relation.name].append((package, relation))

    def identify(self, requirement_or_candidate: _Requirement | _Candidate) -> _Id:
        """See resolvelib."""
        if isinstance(requirement_or_candidate, _OneOf | _WayToMeet):
            return requirement_or_candidate.group
        return requirement_or_candidate.name

    def get_preference(
        self,
        identifier: _Id,
        resolutions: Any,
        candidates: Any,
        information: Any,
        backtrack_causes: Any,
    ) -> bool:
        """Alternatives come last, when more is known of what else is needed."""
        return not isinstance(identifier, str)

    def narrow_requirement_selection(
        self,
        identifiers: Iterable[_Id],
        resolutions: Any,
        candidates: Any,
        information: Any,
        backtrack_causes: Any,
    ) -> Iterable[_Id]:
        """One is enough: the order among packages makes no difference to what is chosen."""
        identifiers = list(identifiers)
        return [next((each for each in identifiers if isinstance(each, str)), identifiers[0])]

    def find_matches(
        self,
        identifier: _Id,
        requirements: Mapping[_Id, Iterator[_Requirement]],
        incompatibilities: Mapping[_Id, Iterator[_Candidate]],
    ) -> Sequence[_Candidate]:
        """What can be taken, the most wanted first."""
        bad = list(incompatibilities[identifier])
        found: list[_Candidate] = []
        if not isinstance(identifier, str):
            found += self._choices(identifier, requirements)
        else:
            rules = [rule for rule in requirements[identifier] if isinstance(rule, _PackageRule)]
            if not any(rule.must_be for rule in rules) and identifier not in self._universe.installed:
                found.append(_Absent(identifier))
            found += [p for p in self._universe.versions(identifier) if all(rule.takes(p) for rule in rules)]
        return [candidate for candidate in found if candidate not in bad]

    def _choices(self, group: AnyOf, requirements: Mapping[_Id, Iterator[_Requirement]]) -> list[_WayToMeet]:
        found: dict[str, tuple[int, _WayToMeet]] = {}
        for relation in group:
            packages = [p for p in self._universe.versions(relation.name) if p.meets(relation)]
            for package in (*packages, *self._universe.providers(relation)):
                name = package.name
                wanted = name in requirements and any(
                    isinstance(rule, _PackageRule) and rule.must_be for rule in requirements[name]
                )
                rank = 0 if package.installed else 1 if wanted else 2
                found.setdefault(name, (rank, _WayToMeet(group, relation, name)))
        return [choice for _, choice in sorted(found.values(), key=lambda pair: pair[0])]

    def is_satisfied_by(self, requirement: _Requirement, candidate: _Candidate) -> bool:
        """See resolvelib."""
        if isinstance(requirement, _OneOf):
            return True
        if isinstance(candidate, DebianPackage):
            return requirement.takes(candidate)
        return not requirement.must_be

    def get_dependencies(self, candidate: _Candidate) -> Iterable[_Requirement]:
        """What a candidate brings with it. What the base has is taken as it is."""
        found: list[_Requirement] = []
        if isinstance(candidate, _WayToMeet):
            relation = candidate.relation
            found.append(_PackageRule(candidate.name, lambda p: p.meets(relation), str(relation)))
        elif isinstance(candidate, DebianPackage) and not candidate.installed:
            found += map(self._group, candidate.depends)
            found += self._refused_by(candidate)
            found += self._base_keeps_working(candidate)
        for requirement in found:
            self._parents.setdefault(self.identify(requirement), candidate)
        return found

    def _group(self, group: AnyOf) -> _Requirement:
        if (
            len(group) == 1
            and not self._universe.providers(group[0])
            and self._universe.versions(group[0].name)
        ):
            return _PackageRule(group[0].name, lambda p: p.meets(group[0]), str(group[0]))
        return _OneOf(group)

    def _refused_by(self, package: DebianPackage) -> Iterator[_PackageRule]:
        for relation in package.conflicts:
            for name in {relation.name, *self._providing.get(relation.name, ())} - {package.name}:
                if name in self._relevant:
                    text = f"none of {relation} beside it"
                    yield _PackageRule(name, lambda p, r=relation: not p.meets(r), text, must_be=False)  # type: ignore[misc]

    def _base_keeps_working(self, package: DebianPackage) -> Iterator[_PackageRule]:
        """Packages of the base that can't be beside this one, or don't work with it, become newer ones."""
        installed = self._universe.installed
        old = installed.get(package.name)
        broken = {
            other.name
            for name in provided_names(package)
            for other, relation in self._refusing.get(name, ())
            if package.meets(relation)
        }
        if old:
            for name in provided_names(old):
                for other in self._needing.get(name, ()):
                    for group in other.depends:
                        holds_now = any(p.meets(r) for r in group for p in self._having(r))
                        after = [*(p for r in group for p in self._having(r) if p is not old), package]
                        if holds_now and not any(p.meets(r) for r in group for p in after):
                            broken.add(other.name)
        for name in broken - {package.name}:
            text = f"a newer {name} than the base's {installed[name].version}, which goes with {package}"
            yield _PackageRule(name, lambda p: not p.installed, text, must_be=False)

    def _having(self, relation: Relation) -> Iterator[DebianPackage]:
        """Packages of the base that have a name."""
        if found := self._universe.installed.get(relation.name):
            yield found
        for name in self._providing.get(relation.name, ()):
            if name in self._universe.installed:
                yield self._universe.installed[name]

    def knows(self, name: str) -> bool:
        """Whether there is anything of this name."""
        return self._universe.is_known(name)

    def chain(self, name: _Id) -> tuple[str, ...]:
        """How a package came in, from what was asked for."""
        names: list[str] = []
        at: _Id | None = name
        seen: set[_Id] = set()
        while at is not None and at not in seen:
            seen.add(at)
            if isinstance(at, str):
                names.append(at)
            parent = self._parents.get(at)
            at = self.identify(parent) if parent else None
        return tuple(reversed(names))


def _impossible(provider: _Provider, error: ResolutionImpossible[Any, Any]) -> errors.ResolveError:
    lines: list[str] = []
    missing: list[str] = []
    for cause in error.causes:
        requirement, parent = cause.requirement, cause.parent
        chain = provider.chain(provider.identify(parent)) if parent is not None else ()
        who = " → ".join(chain) if chain else "you"
        lines.append(f"{who} want{'s' if chain else ''} {requirement.text}")
        if isinstance(requirement, _OneOf):
            missing += [r.name for r in requirement.group]
    unknown = [name for name in dict.fromkeys(missing) if not provider.knows(name)]
    text = "; ".join(dict.fromkeys(lines))
    if unknown:
        text += f"; the base's archives have no {' and no '.join(unknown)}"
    return errors.ResolveError(
        f"the system packages don't go together: {text}",
        remedy="leave out one of them, name another version (NAME=VERSION), or use a newer base",
    )
