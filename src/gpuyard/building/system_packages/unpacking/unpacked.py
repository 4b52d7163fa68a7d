"""Chosen packages on a base: every entry of their layer, and the shared libraries that the image has then."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

from gpuyard import errors
from gpuyard.building.system_packages.control import parse_fields
from gpuyard.building.system_packages.unpacking.alternatives import (
    Alternative,
    admin_path,
    installed_by,
    links_of,
    merge,
)
from gpuyard.building.system_packages.unpacking.deb import Deb, ForwardTar
from gpuyard.building.system_packages.unpacking.dpkg_database import database_files, status_paragraphs
from gpuyard.building.system_packages.unpacking.file_plan import FilePlan, FilePlanner, PlacedMember
from gpuyard.building.system_packages.unpacking.loader_cache import PATH as LOADER_CACHE
from gpuyard.building.system_packages.unpacking.loader_cache import loader_cache
from gpuyard.building.system_packages.unpacking.made_files import made_entries, made_for
from gpuyard.elf import AARCH64, X86_64, Elf
from gpuyard.images.contents.folders import Folders
from gpuyard.images.contents.system import BaseSystem, is_library
from gpuyard.images.layers import FILE, FOLDER, HARD_LINK, LINK, Entry

_MACHINES = {"amd64": X86_64, "arm64": AARCH64}
_MOST_LINKS = 40


@dataclass(frozen=True)
class Unpacked:
    """What the packages make of the base.

    Attributes:
        system: the base's.
        folders: of the base.
        debs: by package name, sorted.
        asked: those that the user named.
        arch: Debian's name of the architecture.
    """

    system: BaseSystem
    folders: Folders
    debs: Mapping[str, Deb]
    asked: Collection[str]
    arch: str

    @cached_property
    def plan(self) -> FilePlan:
        """Where each file goes; raises BuildError when two packages have the same."""
        return FilePlanner(self.system.files, self.folders, self.arch).plan(self.debs)

    def entries(self, open_tar: Callable[[str], AbstractContextManager[ForwardTar]]) -> Iterator[Entry]:
        """The layer's, in an order that depends on the packages alone.

        Args:
            open_tar: opens a package's files by its name; each is closed before the next is opened.

        Raises:
            BuildError: one would lie outside the image's root, whoever named it so.
        """
        for entry in self._entries(open_tar):
            if not {"", ".", ".."}.isdisjoint(entry.path.split("/")):
                raise errors.BuildError(
                    f"the system packages would have {entry.path!r} in the image, which is no path",
                    remedy="tell their distribution",
                )
            yield entry

    def _entries(self, open_tar: Callable[[str], AbstractContextManager[ForwardTar]]) -> Iterator[Entry]:
        for path in self.plan.gone:
            yield Entry.removal(path)
        for name, placed in self.plan.placed.items():
            paths = {each.member.path: each.path for each in placed}
            with open_tar(name) as tar:
                for each in placed:
                    yield _entry(each, tar, paths)
        for alternative in self._alternatives:
            yield Entry.of_bytes(admin_path(alternative), alternative.to_text().encode())
        for path, target in sorted(self._alternative_links.items()):
            yield Entry.link(path, target)
        yield from made_entries(self.made, self.debs, open_tar, self.folders.follow)
        yield from self._loader()
        for path, content, mode in database_files(
            self.system.files, self.debs, self.asked, self.plan.taken, self.arch
        ):
            yield Entry.of_bytes(path, content, mode=mode)

    @cached_property
    def made(self) -> frozenset[str]:
        """Packages whose scripts have nothing left to do."""
        paragraphs = map(parse_fields, status_paragraphs(self.system.files))
        return made_for(self.debs, {fields.get("package", "") for fields in paragraphs})

    @cached_property
    def _alternatives(self) -> list[Alternative]:
        scripts = (deb.extra.get("postinst", "") for deb in self.debs.values())
        installed = [each for script in scripts for each in installed_by(script)[0]]
        return merge(self.system.files, installed, self._is_there)

    @cached_property
    def _alternative_links(self) -> dict[str, str]:
        return {
            self._real(path): target
            for alternative in self._alternatives
            for path, target in links_of(alternative, self._is_there)
        }

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(each.path for placed in self.plan.placed.values() for each in placed)

    def _is_there(self, path: str) -> bool:
        """Whether the packages bring a path."""
        return self._real(path.strip("/")) in self._paths

    def _real(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        return posixpath.join(self.folders.follow(folder), name)

    def libraries(self) -> tuple[dict[str, Elf], dict[str, str]]:
        """The image's shared libraries by path, and links to them with where each leads at last."""
        changed = self._paths | set(self.plan.gone)
        libraries = {path: elf for path, elf in self.system.libraries.items() if path not in changed}
        known = {path: target for path, target in self.system.library_links.items() if path not in changed}
        for name, placed in self.plan.placed.items():
            found = self.debs[name].libraries
            libraries |= {p.path: found[p.member.path] for p in placed if p.member.path in found}
        links = self._links()
        for path in filter(is_library, links):
            if (target := self._final(path, links, known)) in libraries:
                known[path] = target
        return libraries, known

    def _links(self) -> dict[str, str]:
        """Symbolic links of the layer: path and what is written in it."""
        placed = (each for members in self.plan.placed.values() for each in members)
        own = {each.path: each.member.target for each in placed if each.member.kind == LINK}
        return own | self._alternative_links

    def _final(self, path: str, links: Mapping[str, str], known: Mapping[str, str]) -> str:
        for _ in range(_MOST_LINKS):
            if path not in links:
                return known.get(path, path)
            path = self.folders.follow(posixpath.join("/", posixpath.dirname(path), links[path]))
        return path

    def _loader(self) -> Iterator[Entry]:
        """What ldconfig would have written."""
        if (machine := _MACHINES.get(self.arch)) is None:
            return
        libraries, links = self.libraries()
        found = loader_cache(libraries, links, self.folders.follow, self.system.files, machine)
        for path, target in sorted(found.links.items()):
            if path not in self._paths and path not in self._alternative_links:
                yield Entry.link(path, target)
        yield Entry.of_bytes(LOADER_CACHE, found.content)


def _entry(placed: PlacedMember, tar: ForwardTar, paths: Mapping[str, str]) -> Entry:
    """A member as the layer has it.

    Args:
        placed: the member and its path in the image.
        tar: of its package.
        paths: where the package's members are in the image, for hard links.
    """
    member = placed.member
    owner, group = member.uid, member.gid
    if member.kind == FOLDER:
        return Entry(placed.path, mode=member.mode, kind=FOLDER, owner=owner, group=group)
    if member.kind == FILE:
        content = lambda: tar.pieces(member.offset, member.size)  # noqa: E731
        return Entry(placed.path, member.size, content, member.mode, owner=owner, group=group)
    target = paths.get(member.target, member.target) if member.kind == HARD_LINK else member.target
    return Entry(placed.path, mode=member.mode, kind=member.kind, target=target, owner=owner, group=group)
