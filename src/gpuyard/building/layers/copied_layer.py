"""Layers of other images' files: what a Dockerfile's COPY --from takes from a stage."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath
from gpuyard.building.environment import UID
from gpuyard.building.layers.placement import ground, placed
from gpuyard.building.layers.planned_layer import layer_key
from gpuyard.building.work import Reporter
from gpuyard.elf import Elf
from gpuyard.images.cache import Cache
from gpuyard.images.contents.folders import Folders
from gpuyard.images.contents.kept import read_system
from gpuyard.images.contents.subtree import Subtree, read_subtree
from gpuyard.images.image import Image
from gpuyard.images.layers import Compression, Packer

#: Raised whenever this code makes another layer of the same image.
_FORMAT = "copied 1"
_MOST_NAMED = 3


@dataclass(frozen=True)
class CopiedLayer:
    """A planned layer.

    Attributes:
        image: for the platform that the layer is for.
        folders: of the base.
        workdir: of the new image; what goes there belongs to its user, the rest to root.
        mtime: of everything in it, Unix time in seconds.
    """

    copied: CopiedPath
    image: Image
    folders: Folders
    workdir: str
    mtime: int
    compression: Compression
    cache: Cache
    reporter: Reporter
    size: int = 0
    _read: list[Subtree] = field(default_factory=list, init=False, compare=False)

    @property
    def title(self) -> str:
        """See `PlannedLayer`."""
        return str(self.copied)

    @property
    def holds(self) -> str:
        """See `PlannedLayer`."""
        return f"{self.copied}@{self.image.digest}"

    @property
    def key(self) -> str:
        """See `PlannedLayer`."""
        copied = self.copied
        parts = (copied.path, copied.destination, str(self._owner), str(self.mtime), self.compression.name)
        return layer_key(
            _FORMAT, self.image.digest, *map(repr, parts), ground(copied.destination, self.folders)
        )

    @property
    def _owner(self) -> int:
        place = self.folders.follow(self.copied.place(is_folder=True))
        return UID if f"{place}/".startswith(f"{self.folders.follow(self.workdir)}/") else 0

    async def prepare(self) -> None:
        """Reads the image's layers; what counts of them lies in a file without a name."""
        with self.cache.reporting():
            self.cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = tempfile.TemporaryFile(dir=self.cache.folder)  # noqa: SIM115
            weakref.finalize(self, content.close)
            found = await read_subtree(self.image, self.copied.path, content, self._progress)
        if found is None:
            raise errors.BuildError(
                f"{self.copied.image} has no {self.copied.path}", remedy="name a file or folder that is in it"
            )
        if links := found.leading_out():
            more = f" and {len(links) - _MOST_NAMED} more" if len(links) > _MOST_NAMED else ""
            self.reporter.say(
                f"warning: links in {self.copied} lead to what isn't copied with it: "
                f"{', '.join(links[:_MOST_NAMED])}{more}"
            )
        self._read[:] = [found]

    def pack(self) -> Packer:
        """See `PlannedLayer`."""
        (found,) = self._read
        entries = found.entries(self.copied.place(is_folder=found.is_folder), self._owner)
        return Packer.of_entries(placed(entries, self.folders), self.mtime, self.compression)

    async def read_libraries(self) -> Mapping[str, Elf]:
        """See `BringsLibraries`: those below the path, whether or not the loader will look there."""
        system = await read_system(self.image, self.cache, self._progress)
        links = {
            path: system.libraries[to] for path, to in system.library_links.items() if to in system.libraries
        }
        inside = self.copied.path.strip("/")
        return {
            path: elf
            for path, elf in {**system.libraries, **links}.items()
            if not inside or f"{path}/".startswith(f"{inside}/")
        }

    def _progress(self, done: int, total: int) -> None:
        self.reporter.bytes(f"reading {self.copied.image}", done, total)
