"""What a build will make for one platform; decided, and nothing of it made yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard.building.environment import Environment
from gpuyard.building.lock import PlatformLock
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.image import Image
from gpuyard.images.oci import Platform

if TYPE_CHECKING:
    from gpuyard.building.project.builds import Builds
    from gpuyard.building.project.project import Project
    from gpuyard.building.project.requested import Requested


@dataclass(frozen=True)
class PlannedRequirements:
    """What the user's file of requirements asks for.

    Attributes:
        file: where wheels may be looked up, too.
        requested: what it asks for besides wheels.
        builds: what of it may be built.
    """

    file: Path
    requested: Requested
    builds: Builds


@dataclass(frozen=True)
class PlatformPlan:
    """One platform's image to be.

    Attributes:
        requirements: None without any.
        sources: where the index has wheels that were resolved just now; others are looked up when needed.
        base_requires: by name what the base's packages require, where it was resolved just now.
        copied: the images that files are copied from, by their names.
        projects: the user's own that are installed.
    """

    platform: Platform
    base: Image
    contents: ImageContents
    environment: Environment
    lock: PlatformLock
    requirements: PlannedRequirements | None = None
    sources: Mapping[Wheel, str] = field(default_factory=dict, hash=False)
    base_requires: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    copied: Mapping[str, Image] = field(default_factory=dict, hash=False)
    projects: tuple[Project, ...] = ()

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """All that are in the image: the lock's, and the user's own that were built."""
        return (*self.lock.wheels, *(project.wheel for project in self.projects if project.wheel))
