"""The folders of an image as far as a build must know them: where links lead, and whose folders are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: So many of a base's files and dead links are told; those nearest to the root.
_MOST_OBSTACLES = 1000

A_FILE, A_CIRCLE = "file", "circle"


class FolderMode(NamedTuple):
    """Permission bits and owner of a folder, or of a program."""

    mode: int
    uid: int
    gid: int

    def lets_in(self, uid: int) -> bool:
        """Whether a user of this number and group may run it or reach what is in it."""
        if self.uid == uid:
            return bool(self.mode & 0o100)
        return bool(self.mode & (0o010 if self.gid == uid else 0o001))


PLAIN = FolderMode(0o755, 0, 0)


@dataclass(frozen=True)
class Folders:
    """Paths have no leading slash.

    Attributes:
        links: to folders, and to nothing: where each leads at last, so that no target goes through a link.
        special: folders that aren't PLAIN.
        obstacles: what no folder can be made below: A_FILE (or a link to one), or A_CIRCLE of links. Of
            files only those are told that have at most three folders above them.
    """

    links: Mapping[str, str] = field(default_factory=dict, hash=False)
    special: Mapping[str, FolderMode] = field(default_factory=dict, hash=False)
    obstacles: Mapping[str, str] = field(default_factory=dict, hash=False)

    def follow(self, path: str) -> str:
        """A path with the links in it followed, as the kernel does it; without a leading slash."""
        found = ""
        for part in path.split("/"):
            if part == "..":
                found = found.rpartition("/")[0]
            elif part not in ("", "."):
                step = f"{found}/{part}" if found else part
                found = self.links.get(step, step)
        return found

    def obstacle(self, path: str) -> str | None:
        """What of a path that is to be a folder can't be one: a file, or a link to one or in a circle."""
        found = ""
        for part in path.strip("/").split("/"):
            step = f"{found}/{part}" if found else part
            if step in self.obstacles:
                return step
            found = self.links.get(step, step)
        return None

    def mode(self, path: str) -> FolderMode:
        """Of a folder; PLAIN for one that isn't there.

        Args:
            path: links followed.
        """
        return self.special.get(path, PLAIN)

    def to_json(self) -> dict[str, Any]:
        """For the cache: special folders are grouped, since most have one owner."""
        groups: dict[FolderMode, list[str]] = {}
        for path, mode in self.special.items():
            groups.setdefault(mode, []).append(path)
        special = [[list(mode), paths] for mode, paths in groups.items()]
        return {"links": dict(self.links), "special": special, "obstacles": dict(self.obstacles)}

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Folders:
        """From the cache."""
        special = {path: FolderMode(*mode) for mode, paths in raw["special"] for path in paths}
        return cls(raw["links"], special, raw["obstacles"])


def nearest(obstacles: Mapping[str, str]) -> dict[str, str]:
    """As many as a build's small value holds."""
    ordered = sorted(obstacles, key=lambda path: (path.count("/"), path))
    return {path: obstacles[path] for path in ordered[:_MOST_OBSTACLES]}


def parents(path: str) -> Iterator[str]:
    """The folders that lead to a path, the nearest first, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def is_text(name: str) -> bool:
    """Whether a name in a layer is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
