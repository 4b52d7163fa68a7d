"""A layer's files on a base: where its links lead, in folders that stay as the base has them.

A folder in a layer replaces a link of that name below it, and gives a folder below its own owner and mode
(OCI image layer specification, "Applying Changesets"). So a layer names the folder that a link leads to, and
repeats what the base says of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gpuyard import errors
from gpuyard.building.workdir.base_folders import refuse_system_folder
from gpuyard.images.contents.folders import Folders, parents
from gpuyard.images.layers import FOLDER, Entry, with_parents


def placed(entries: Iterable[Entry], folders: Folders) -> list[Entry]:
    """Entries as a layer over the base has them, sorted, with the folders that lead to them.

    A folder with an owner of its own becomes his; the base's other folders keep owner and mode.

    Args:
        entries: with paths as somebody in the image would write them.
        folders: of the base.

    Raises:
        UsageError: a folder of the user's would be the system's, or can't be a folder in the base.
        BuildError: one is a file and another lies in it.
    """
    follow = _LinkFollower(folders)
    moved = [follow.entry(entry) for entry in entries]
    return [_as_below(entry, folders) if entry.kind == FOLDER else entry for entry in with_parents(moved)]


def ground(path: str, folders: Folders) -> str:
    """What a layer at a path, and below it, depends on besides its own files; empty on most bases."""
    place = folders.follow(path)
    inside, above = f"{place}/" if place else "", {place, *parents(place)}
    known = {**folders.special, **folders.links, **folders.obstacles}
    found = [f"{each} {known[each]}" for each in sorted(known) if each in above or each.startswith(inside)]
    return "\n".join([place, *found]) if found or place != path.strip("/") else ""


class _LinkFollower:
    """Follows the links of a base, once for each folder."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._known: dict[str, str] = {"": ""}

    def entry(self, entry: Entry) -> Entry:
        if entry.kind == FOLDER:
            path = self._folder(entry.path)
            if entry.owner:
                refuse_system_folder(path, f"the folder /{entry.path}")
        else:
            folder, _, name = entry.path.rpartition("/")
            path = f"{self._folder(folder)}/{name}" if folder else name
        return entry if path == entry.path else replace(entry, path=path)

    def _folder(self, path: str) -> str:
        if (found := self._known.get(path)) is None:
            if obstacle := self._folders.obstacle(path):
                raise errors.UsageError(
                    f"the image would have /{path} as a folder, and /{obstacle} is no folder in the base",
                    remedy="choose another workdir, or remove that from the base",
                )
            found = self._known[path] = self._folders.follow(path)
        return found


def _as_below(entry: Entry, folders: Folders) -> Entry:
    below = folders.special.get(entry.path)
    if below is None:
        return entry
    if entry.owner:
        return replace(entry, mode=below.mode | 0o700)
    if entry.mode != 0o755:
        return entry
    return Entry.folder(entry.path, mode=below.mode, owner=below.uid, group=below.gid)
