"""The layer that takes packages away which a base of ours installed and other wheels replace.

Both would lie in one folder, the old files among the new. What was installed is in each package's RECORD
(the specification "Recording installed projects"); a layer says that a file is gone by a whiteout.
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from gpuyard.building.environment import PREFIX, Environment
from gpuyard.building.layers.placement import placed
from gpuyard.building.layers.planned_layer import layer_key
from gpuyard.building.work import Reporter
from gpuyard.images.contents.contents import normalise
from gpuyard.images.contents.folders import Folders
from gpuyard.images.contents.layer_stream import stream_layer
from gpuyard.images.contents.overlay import Kept, Member, Overlay
from gpuyard.images.image import Image
from gpuyard.images.layers import Compression, Entry, Packer

#: Raised whenever this code makes another layer of the same base.
_FORMAT = "removed 1"
_MOST_RECORD = 64 << 20


@dataclass(frozen=True)
class RemovalLayer:
    """A planned layer, which is empty where the packages are elsewhere in the base.

    Attributes:
        names: normalised, sorted.
        folders: of the base.
        mtime: of everything in it, Unix time in seconds.
    """

    base: Image
    folders: Folders
    names: tuple[str, ...]
    environment: Environment
    mtime: int
    compression: Compression
    reporter: Reporter
    size: int = 0
    _records: dict[str, Sequence[str]] = field(default_factory=dict, init=False, compare=False)

    @property
    def title(self) -> str:
        """See `PlannedLayer`."""
        return f"without the base's {', '.join(self.names)}"

    @property
    def holds(self) -> str:
        """See `PlannedLayer`."""
        return self.title

    @property
    def key(self) -> str:
        """See `PlannedLayer`."""
        return layer_key(_FORMAT, self.base.digest, str(self.mtime), self.compression.name, *self.names)

    async def prepare(self) -> None:
        """Reads the base's layers for what its packages consist of."""
        site = self.folders.follow(self.environment.site_packages)
        wanted = re.compile(re.escape(site) + r"/[^/]+\.dist-info/RECORD")
        files = Overlay()
        done = 0

        def keep(member: Member, content: IO[bytes]) -> Iterator[tuple[str, Kept]]:
            if wanted.fullmatch(member.path):
                yield member.path, content.read(_MOST_RECORD)

        def count(size: int) -> None:
            nonlocal done
            done += size
            self.reporter.bytes("reading what the base installed", done, max(done, self.base.size))

        for layer in self.base.manifest.layers:
            await stream_layer(self.base.store, layer, lambda tar: files.apply(tar, keep), count)
        prefix = self.folders.follow(PREFIX)
        self._records.update({path: _paths(site, prefix, content) for path, content in files.contents()})

    def pack(self) -> Packer:
        """See `PlannedLayer`."""
        return Packer.of_entries(placed(self._whiteouts(), self.folders), self.mtime, self.compression)

    def _whiteouts(self) -> Iterator[Entry]:
        site = self.folders.follow(self.environment.site_packages)
        removed = {path for path in self._records if _name(path) in self.names}
        kept = {path for record in self._records.keys() - removed for path in self._records[record]}
        for path in sorted(gone_paths(site, {p for r in removed for p in self._records[r]}, kept)):
            yield Entry.removal(path)


def gone_paths(site: str, removed: set[str], kept: set[str]) -> set[str]:
    """What to take away: whole folders of site-packages where nothing stays in them, else single files.

    Args:
        site: the folder of site-packages.
        removed: files that go.
        kept: files of packages that stay; what is both stays.
    """
    stays = {parent for path in kept for parent in _parents(path)}
    gone: set[str] = set()
    for path in removed - kept:
        folders = [parent for parent in _parents(path) if parent.startswith(f"{site}/")]
        gone.add(next((folder for folder in reversed(folders) if folder not in stays), path))
    return gone


def _parents(path: str) -> Iterator[str]:
    """The folders that lead to a path, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def _name(record: str) -> str:
    return normalise(posixpath.basename(posixpath.dirname(record)).partition("-")[0])


def _paths(site: str, prefix: str, record: bytes) -> list[str]:
    """The files of a RECORD that are in the environment, with itself."""
    found = []
    for row in csv.reader(record.decode("utf-8", "replace").splitlines()):
        path = posixpath.normpath(posixpath.join(site, row[0])) if row else ""
        if path.startswith(f"{prefix}/"):
            found.append(path)
    return found
