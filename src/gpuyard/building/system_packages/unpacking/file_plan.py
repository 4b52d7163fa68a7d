"""Where each file of the chosen packages goes in the image, as dpkg would put it there."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from gpuyard import errors
from gpuyard.building.system_packages.resolving.relations import single_relations
from gpuyard.building.system_packages.unpacking.deb import Deb, DebMember
from gpuyard.images.contents.folders import Folders
from gpuyard.images.layers import FOLDER, LINK

_INFO = "var/lib/dpkg/info/"
_RULE = re.compile(r"path-(?P<kind>exclude|include)\s*=?\s*(?P<pattern>\S+)")


@dataclass(frozen=True)
class PlacedMember:
    """A file of a package and its path in the image."""

    path: str
    member: DebMember


@dataclass
class InstalledFiles:
    """Files of the base's packages, by dpkg's lists.

    Attributes:
        lists: package, with its architecture where dpkg names it so → paths as the package has them.
    """

    lists: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> InstalledFiles:
        """From a base's files."""
        found = cls()
        for path, content in files.items():
            if path.startswith(_INFO) and path.endswith(".list"):
                lines = content.decode("utf-8", "surrogateescape").splitlines()
                found.lists[path.removeprefix(_INFO).removesuffix(".list")] = [
                    line.strip("/") for line in lines if line not in ("/.", "")
                ]
        return found

    def of(self, name: str, arch: str) -> list[str]:
        """A package's."""
        return self.lists.get(f"{name}:{arch}") or self.lists.get(name) or []


@dataclass
class FilePlan:
    """All files that come, go, or change their owner.

    Attributes:
        placed: for each package by name, in the order of its tar.
        gone: files of the base that newer versions don't have any more.
        taken: package of the base, as dpkg's lists name it → what of its files another one has now.
    """

    placed: dict[str, list[PlacedMember]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    taken: dict[str, set[str]] = field(default_factory=dict)


class FilePlanner:
    """Plans the files of several packages.

    Args:
        base: files of the base, by path without a leading slash.
        folders: of the base: links there count, so files of /lib go to /usr/lib where that is one.
        arch: Debian's name of the architecture.
    """

    def __init__(self, base: Mapping[str, bytes], folders: Folders, arch: str) -> None:
        self._arch = arch
        self._folders = folders
        self._rules = _path_rules(base)
        self._diverted = _diversions(base)
        self._installed = InstalledFiles.read(base)

    def plan(self, debs: Mapping[str, Deb]) -> FilePlan:
        """Places every file.

        Args:
            debs: by package name.

        Raises:
            BuildError: two packages have the same file, and neither may take the other's.
        """
        folders = self._with_links(debs)
        owners = self._owners(folders, debs)
        listed_folders = {path.rpartition("/")[0] for path in owners}
        plan = FilePlan()
        seen: dict[str, str] = {}
        for name, deb in debs.items():
            placed = plan.placed.setdefault(name, [])
            for member in deb.members:
                path = self._place(name, member, folders)
                if not path or self._is_excluded(member):
                    continue
                if member.kind == FOLDER:
                    known = path in owners or path in listed_folders or path in folders.special
                    if path not in seen and not known:
                        seen[path] = ""
                        placed.append(PlacedMember(path, member))
                    continue
                if member.kind == LINK and path in listed_folders:
                    continue  # dpkg leaves a folder where a package has a link instead
                if other := seen.get(path):
                    self._refuse_unless_replaced(path, deb, name, other, debs)
                    plan.placed[other] = [each for each in plan.placed[other] if each.path != path]
                for owner in owners.get(path, ()):
                    self._take_over(plan, path, deb, name, owner)
                seen[path] = name
                placed.append(PlacedMember(path, member))
        plan.gone = sorted(self._gone(debs, folders, set(seen), owners))
        return plan

    def _place(self, name: str, member: DebMember, folders: Folders) -> str:
        path = self._diverted.get("/" + member.path, (name, ""))
        real = path[1].strip("/") if path[0] != name and path[1] else member.path
        if member.kind == FOLDER:
            return folders.follow(real)
        parent, _, last = real.rpartition("/")
        return posixpath.join(folders.follow(parent), last)

    def _with_links(self, debs: Mapping[str, Deb]) -> Folders:
        """The base's folders, with links to folders that packages bring."""
        known = {
            parent for deb in debs.values() for m in deb.members if (parent := m.path.rpartition("/")[0])
        }
        links = dict(self._folders.links)
        for deb in debs.values():
            for member in deb.members:
                if member.kind == LINK and member.path in known:
                    path = self._folders.follow(member.path)
                    target = posixpath.join("/", posixpath.dirname(path), member.target)
                    links.setdefault(path, self._folders.follow(target))
        return replace(self._folders, links=links)

    def _owners(self, folders: Folders, debs: Mapping[str, Deb]) -> dict[str, list[str]]:
        """Which of the base's packages have a path; those that are replaced by newer ones have none."""
        found: dict[str, list[str]] = {}
        follow = lru_cache(None)(folders.follow)
        for owner, paths in self._installed.lists.items():
            name, _, arch = owner.partition(":")
            if name in debs and arch in ("", self._arch):
                continue
            for path in paths:
                parent, _, last = path.rpartition("/")
                found.setdefault(posixpath.join(follow(parent), last), []).append(owner)
        return found

    def _gone(
        self, debs: Mapping[str, Deb], folders: Folders, kept: set[str], others: Mapping[str, list[str]]
    ) -> Iterator[str]:
        """What the replaced versions had and no package has any more. Configuration stays, as with dpkg."""
        for name in debs:
            paths = self._installed.of(name, self._arch)
            inner = {path.rpartition("/")[0] for path in paths}
            for path in paths:
                parent, _, last = path.rpartition("/")
                real = posixpath.join(folders.follow(parent), last)
                if path in inner or path.startswith("etc/") or real in kept or real in others:
                    continue
                if real in folders.links or f"{path}" in {m.path for m in debs[name].members}:
                    continue
                yield real

    def _is_excluded(self, member: DebMember) -> bool:
        excluded = False
        for excludes, pattern in self._rules:
            if fnmatch.fnmatchcase("/" + member.path, pattern):
                excluded = excludes
        return excluded

    def _refuse_unless_replaced(
        self, path: str, deb: Deb, name: str, other: str, debs: Mapping[str, Deb]
    ) -> None:
        if _replaces(deb, other, debs[other].fields.get("version", "")):
            return
        raise errors.BuildError(
            f"the packages {other} and {name} both have /{path}, and can't be in one image",
            remedy="leave out one of them",
        )

    def _take_over(self, plan: FilePlan, path: str, deb: Deb, name: str, owner: str) -> None:
        base_name, _, arch = owner.partition(":")
        if base_name == name and arch not in ("", self._arch):
            return  # the same package for another architecture has the same file
        if not _replaces(deb, base_name, None):
            raise errors.BuildError(
                f"the package {name} has /{path}, which {owner} of the base has",
                remedy=f"leave out {name}, or use a base without {owner}",
            )
        plan.taken.setdefault(owner, set()).add(path)


def _replaces(deb: Deb, other: str, version: str | None) -> bool:
    """Whether a package may take files of another."""
    return any(
        relation.name == other and (version is None or relation.takes(version))
        for relation in single_relations(deb.fields.get("replaces", ""))
    )


def _path_rules(base: Mapping[str, bytes]) -> Sequence[tuple[bool, str]]:
    """What the base doesn't want unpacked (dpkg.cfg), such as documents; the last rule that fits counts."""
    texts = [content for path, content in sorted(base.items()) if path.startswith("etc/dpkg/dpkg.cfg")]
    lines = (line.strip() for text in texts for line in text.decode("utf-8", "replace").splitlines())
    matches = filter(None, map(_RULE.fullmatch, lines))
    return [(match["kind"] == "exclude", match["pattern"]) for match in matches]


def _diversions(base: Mapping[str, bytes]) -> dict[str, tuple[str, str]]:
    """Path → whose own file stays there, and where others' goes (dpkg-divert(1))."""
    lines = base.get("var/lib/dpkg/diversions", b"").decode("utf-8", "surrogateescape").splitlines()
    triples: Iterable[tuple[str, str, str]] = zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    return {path: (package, aside) for path, aside, package in triples}
