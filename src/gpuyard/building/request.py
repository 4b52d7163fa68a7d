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
class LockUse:
    """Which lock a build follows, and what may become of it.

    Attributes:
        file: gpuyard.lock; beside the application by default.
        stays: whether it is anybody's after the build; else nobody hears of it.
        upgrade: lock anew.
    """

    file: Path | None = None
    stays: bool = True
    keeping: Keeping = Keeping.UP_TO_DATE
    upgrade: bool = False


@dataclass(frozen=True)
class Allowed:
    """What a build does only because somebody says so; `|` allows what either does.

    Attributes:
        secrets: files, folders or patterns of what may go in although it looks secret.
        missing_libraries: names of shared libraries that wheels may lack.
        project: whether the user's own projects are built, by their backends.
        sources: names of distributions that may be built of their sources; ALL_SOURCES for all.
    """

    secrets: tuple[str, ...] = ()
    missing_libraries: tuple[str, ...] = ()
    project: bool = False
    sources: tuple[str, ...] = ()

    def __or__(self, other: Allowed) -> Allowed:
        return Allowed(
            (*self.secrets, *other.secrets),
            (*self.missing_libraries, *other.missing_libraries),
            self.project or other.project,
            (*self.sources, *other.sources),
        )


@dataclass(frozen=True)
class ImageSettings:
    """How an image is made and what its config says.

    Attributes:
        workdir: absolute path in the image.
        command: what a container of the image starts when it is told nothing; empty for the base's own.
        env: variables of the image, over the base's; one may name its own variable, for the base's value.
        labels: of the image, over the base's.
        created: Unix time of everything in the image, seconds.
        compression: "gzip" or "zstd".
        byte_code: whether wheels are compiled.
    """

    workdir: str = WORKDIR
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    created: int = EPOCH
    compression: str = "gzip"
    byte_code: bool = True


@dataclass(frozen=True)
class BuildRequest:
    """What to build, of what, and where it goes.

    Attributes:
        base: where the base image is.
        target: where the image goes, with its tag.
        root: folder of the application's files.
        context: a folder above it whose ignore files count, too: the spec's.
        requirements: file with what to install, if any.
        platforms: at least one; several make an index.
        system_packages: what to install of the base's distribution: NAME or NAME=VERSION.
        copies: files and folders of other images.
        base_name: what the lock and the image call the base, where that is another than `base`: a layout's
            path as the user wrote it, which is the same on each machine.
        tags: further names for the same image, in the target's repository or elsewhere.
        pull_repository: the name that nodes pull the image by, where that is another than the target's.
    """

    base: str
    target: str
    root: Path
    requirements: Path | None = None
    platforms: tuple[Platform, ...] = (Platform("linux", "amd64"),)
    system_packages: tuple[str, ...] = ()
    copies: tuple[CopiedPath, ...] = ()
    base_name: str | None = None
    tags: tuple[str, ...] = ()
    pull_repository: str | None = None
    context: Path | None = None
    image: ImageSettings = ImageSettings()
    locking: LockUse = LockUse()
    allowed: Allowed = Allowed()

    @property
    def lock_path(self) -> Path:
        """Of the lock."""
        return self.locking.file or self.root / LOCK_NAME

    @property
    def targets(self) -> tuple[str, ...]:
        """All names that the image gets, the first of which it is built into."""
        return tuple(dict.fromkeys((self.target, *self.tags)))
