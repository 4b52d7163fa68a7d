"""Layers of the application's large files, such as weights: an edit of the code beside them sends none.

Which files share a layer depends on their sizes alone, so that the same files give the same image. Files
above ALONE_BYTES have a layer each, as long as there are some left; those above SHARED_BYTES share one.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuyard.building.environment import UID
from gpuyard.building.layers.placement import placed
from gpuyard.building.layers.planned_layer import layer_key
from gpuyard.building.workdir.application import Application
from gpuyard.building.workdir.walk import changed
from gpuyard.images.contents.folders import Folders
from gpuyard.images.layers import FILE, Compression, Entry, Packer

#: Bytes above which a file doesn't lie in the application's layer, which is packed on every build.
SHARED_BYTES = 1_000_000
#: Bytes above which a file has a layer of its own.
ALONE_BYTES = 16_000_000
#: Layers of one file each; a registry is asked for each layer on every build.
MOST_ALONE = 16

#: Raised whenever this code makes another layer of the same files.
_FORMAT = "large files 1"
_MOST_NAMED = 10


def title_of_files(paths: Sequence[str]) -> str:
    """Of the layer that large files are in."""
    return paths[0] if len(paths) == 1 else f"{len(paths)} large files"


@dataclass(frozen=True)
class LargeFileLayer:
    """A planned layer.

    Attributes:
        application: with these files only.
        digests: SHA-256 of each, by path.
        folders: of the base.
        workdir: absolute path in the image.
        mtime: of everything in it, Unix time in seconds.
    """

    application: Application
    digests: Mapping[str, str]
    folders: Folders
    workdir: str
    mtime: int
    compression: Compression

    @property
    def title(self) -> str:
        """The file, or how many."""
        return title_of_files([path for path, _ in self.application.files])

    @property
    def holds(self) -> str:
        """The files' names, as far as people read them."""
        paths = [path for path, _ in self.application.files]
        more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
        return ", ".join(paths[:_MOST_NAMED]) + more

    @property
    def key(self) -> str:
        """See `PlannedLayer`."""
        members = (
            repr((entry.path, entry.kind, entry.mode, entry.owner, entry.gid, self.digests.get(path, "")))
            for entry, path in self._members()
        )
        return layer_key(_FORMAT, str(self.mtime), self.compression.name, *members)

    @property
    def size(self) -> int:
        """See `PlannedLayer`."""
        return self.application.size

    async def prepare(self) -> None:
        """See `PlannedLayer`."""

    def pack(self) -> Packer:
        """See `PlannedLayer`; a file that isn't what its digest says ends it with an error."""
        entries = (
            replace(entry, content=self._checked(entry, path)) if path else entry
            for entry, path in self._members()
        )
        return Packer.of_entries(entries, self.mtime, self.compression)

    def _members(self) -> Iterator[tuple[Entry, str]]:
        """All members of the layer, each with its path in the workdir where it is a file."""
        entries = list(self.application.entries(self.workdir, UID))
        contents = [entry.content for entry in entries if entry.kind == FILE]
        paths = dict(zip(contents, (path for path, _ in self.application.files), strict=True))
        return ((entry, paths.get(entry.content, "")) for entry in placed(entries, self.folders))

    def _checked(self, entry: Entry, path: str) -> Callable[[], Iterable[bytes]]:
        def read() -> Iterator[bytes]:
            assert entry.content
            found = hashlib.sha256()
            for piece in entry.content():
                found.update(piece)
                yield piece
            if found.hexdigest() != self.digests[path]:
                raise changed(self.application.root / path)

        return read


def large_files(application: Application) -> dict[str, int]:
    """Size in bytes of each large file, by path."""
    return {
        path: state.st_size
        for path, state in application.files
        if stat.S_ISREG(state.st_mode) and state.st_size > SHARED_BYTES
    }


def group_files(sizes: Mapping[str, int], layers_left: int) -> list[tuple[str, ...]]:
    """Which large files share a layer, sorted; those that aren't in one lie with the rest of the application.

    Args:
        sizes: of `large_files`.
        layers_left: how many layers the image may get for them.
    """
    if layers_left < 1:
        return []
    largest = sorted((-size, path) for path, size in sizes.items() if size > ALONE_BYTES)
    alone = sorted(path for _, path in largest[: min(MOST_ALONE, layers_left - 1)])
    rest = tuple(sorted(sizes.keys() - alone))
    return [*((path,) for path in alone), *([rest] if rest else [])]
