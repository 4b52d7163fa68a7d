"""What is to be built: all that the user, a spec or gpuyard itself has said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from gpuyard.building.copied_images import CopiedPath
from gpuyard.building.environment import WORKDIR
from gpuyard.building.lock import NAME as LOCK_NAME
from gpuyard.images.layers import EPOCH
from gpuyard.images.oci import Platform


class Keeping(Enum):
    """What becomes of the lock of a build.

    Attributes:
        UP_TO_DATE: it is made anew when what it locks has changed.
        LOCKED: the build fails where it would be made anew.
        FROZEN: it is followed as it is.
    """

    UP_TO_DATE = "up to date"
    LOCKED = "locked"
    FROZEN = "frozen"


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        base: where the base image is.
        target: where the image goes, with its tag.
        root: folder of the application's files.
        context: a folder above it whose ignore files count, too: the spec's.
        requirements: file with what to install, if any.
        lock: gpuyard.lock; beside the application by default.
        lock_stays: whether it is anybody's after the build; else nobody hears of it.
        platforms: at least one; several make an index.
        workdir: absolute path in the image.
        command: what a container of the image starts when it is told nothing; empty for the base's own.
        compression: "gzip" or "zstd".
        byte_code: whether wheels are compiled.
        allow_secrets: files, folders or patterns of what may go in although it looks secret.
        upgrade: lock anew.
        created: Unix time of everything in the image, seconds.
        base_name: what the lock and the image call the base, where that is another than `base`: a layout's
            path as the user wrote it, which is the same on each machine.
        pull_repository: the name that nodes pull the image by, where that is another than the target's.
        tags: further names for the same image, in the target's repository or elsewhere.
        keeping: what becomes of the lock.
        allow_missing_libraries: names of shared libraries that wheels may lack.
        copies: files and folders of other images.
        env: variables of the image, over the base's.
        labels: of the image, over the base's.
        system_packages: what to install of the base's distribution: NAME or NAME=VERSION.
        build_project: whether the user's own projects are built, by their backends.
        build_sources: names of distributions that may be built of their sources; ALL_SOURCES for all.
    """

    base: str
    target: str
    root: Path
    requirements: Path | None = None
    lock: Path | None = None
    lock_stays: bool = True
    platforms: tuple[Platform, ...] = (Platform("linux", "amd64"),)
    workdir: str = WORKDIR
    command: tuple[str, ...] = ()
    compression: str = "gzip"
    byte_code: bool = True
    allow_secrets: tuple[str, ...] = ()
    upgrade: bool = False
    created: int = EPOCH
    base_name: str | None = None
    pull_repository: str | None = None
    keeping: Keeping = Keeping.UP_TO_DATE
    tags: tuple[str, ...] = ()
    allow_missing_libraries: tuple[str, ...] = ()
    copies: tuple[CopiedPath, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    build_project: bool = False
    build_sources: tuple[str, ...] = ()
    context: Path | None = None

    @property
    def lock_path(self) -> Path:
        """Of the lock."""
        return self.lock or self.root / LOCK_NAME

    @property
    def targets(self) -> tuple[str, ...]:
        """All names that the image gets, the first of which it is built into."""
        return tuple(dict.fromkeys((self.target, *self.tags)))
