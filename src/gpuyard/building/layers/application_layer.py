"""The layer of the user's files, and of the few of ours that each image needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard.building.environment import LAUNCHER, UID, Environment, home_entries
from gpuyard.building.layers.placement import placed
from gpuyard.building.workdir.application import Application
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.layers import Compression, Entry, Packer

#: The launcher and what it reads in some runs.
_LAUNCHER_FILES = sorted(Path(__file__).parents[2].glob("launcher*.py"))


@dataclass(frozen=True)
class ApplicationLayer:
    """A planned layer without a key: to pack its files is what tells whether one of them changed.

    Attributes:
        contents: of the base.
        workdir: absolute path in the image.
        mtime: of everything in it, Unix time in seconds.
        projects: what the user's own projects have beside their code.
    """

    application: Application
    environment: Environment
    contents: ImageContents
    workdir: str
    mtime: int
    compression: Compression
    projects: Sequence[Entry] = ()
    title: str = "application"
    holds: str = "application"
    key: str = ""

    @property
    def size(self) -> int:
        """See `PlannedLayer`."""
        return self.application.size

    async def prepare(self) -> None:
        """See `PlannedLayer`."""

    def pack(self) -> Packer:
        """See `PlannedLayer`."""
        folder = LAUNCHER.strip("/").rpartition("/")[0]
        entries = [
            *home_entries(self.contents),
            *self.environment.entries(),
            *(Entry.of_bytes(f"{folder}/{file.name}", file.read_bytes()) for file in _LAUNCHER_FILES),
            *self.projects,
            *self.application.entries(self.workdir, UID),
        ]
        return Packer.of_entries(placed(entries, self.contents.folders), self.mtime, self.compression)
