"""What of a build's sources may be built, and the wheels that come of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.building.project.requested import Requested
from gpuyard.building.python.sources import ALL_SOURCES, Source
from gpuyard.building.python.wheels import Wheel, wheel_path
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents, normalise
from gpuyard.images.oci import Platform

if TYPE_CHECKING:
    from gpuyard.building.project.project import Project
    from gpuyard.building.project.wheel_build import WheelBuilder
    from gpuyard.building.python.resolve import Resolver


@dataclass(frozen=True)
class Builds:
    """What the user allows.

    Attributes:
        project: whether own projects are built instead of read.
        sources: names of distributions that may be built; ALL_SOURCES for all.
        folder: where uv looks for its configuration, and above it.
        created: Unix time that files in a wheel are to have, seconds.
        say: told of each build.
    """

    project: bool
    sources: tuple[str, ...]
    cache: Cache
    environ: Mapping[str, str]
    folder: Path
    created: int
    say: Callable[[str], None]

    def builder(self, platform: Platform, contents: ImageContents) -> WheelBuilder:
        """For one base."""
        from gpuyard.building.project.wheel_build import (
            WheelBuilder,
        )  # Only for builds: it costs start-up time.

        return WheelBuilder(platform, contents, self.cache, self.environ, self.folder, self.created, self.say)

    async def requested(self, path: Path, builder: WheelBuilder | None, *, frozen: bool) -> Requested:
        """What requirements ask for besides wheels.

        Args:
            path: of the requirements.
            builder: where projects are built instead of read.
            frozen: whether wheels are those of gpuyard.lock, whatever is asked for.
        """

        from gpuyard.building.project.reading import read_requested

        async def read(folder: Path) -> Project:
            from gpuyard.building.project.metadata import ProjectMetadata
            from gpuyard.building.project.project import Project, read_project

            if builder is None:
                return read_project(folder, self.environ)
            wheel = await builder.of_folder(folder)
            metadata = ProjectMetadata.of_wheel(wheel_path(self.cache, wheel))
            return Project(folder.absolute(), metadata, (), wheel)

        return await read_requested(path, read, self.environ, set(map(_key, self.sources)), frozen=frozen)

    def unused(self, requested: Requested, names: Collection[str]) -> Iterator[str]:
        """What is allowed and builds nothing, in words.

        Args:
            names: normalised, of all distributions that are required.
        """
        if self.project and not requested.projects:
            yield f"--build-project builds nothing: {requested.path.name} names no project of your own"
        for name in sorted(set(map(_key, self.sources)) - {ALL_SOURCES, *names}):
            yield f"--build-sources {name} builds nothing: no such package goes into the image"

    async def of_sources(
        self, sources: Mapping[Source, str], builder: WheelBuilder, requirements: Path
    ) -> list[Wheel]:
        """The wheels of sources, one after another, each of which is there when this ends."""
        from gpuyard.building.project.source_build import build_source
        from gpuyard.building.python.index.fetching import wheel_fetcher

        fetcher = wheel_fetcher(self.cache, self.environ, self.folder, requirements)
        return [
            await build_source(builder, source, where, fetcher.download)
            for source, where in sorted(sources.items())
        ]

    async def again(
        self, wheels: Sequence[Wheel], builder: WheelBuilder, resolver: Resolver, requirements: Path | None
    ) -> None:
        """Builds wheels again that the lock names and the cache lacks.

        Raises:
            BuildError: one mayn't be built, or came out as another.
        """
        from gpuyard.building.project.source_build import build_source
        from gpuyard.building.python.index.fetching import wheel_fetcher

        fetcher = wheel_fetcher(self.cache, self.environ, self.folder, requirements)
        for wheel in wheels:
            source = Source.of_text(wheel.source)
            if source is None:
                raise errors.BuildError(
                    f"{wheel.file} was built of {wheel.source!r}, which nobody understands",
                    remedy="restore the lock, or build with --upgrade",
                )
            if not {ALL_SOURCES, wheel.name} & set(map(_key, self.sources)):
                raise errors.BuildError(
                    f"{wheel.file} of the lock was built of sources, and isn't on this machine",
                    remedy=f"build it again with --build-sources {wheel.name}",
                )
            where = await resolver.locate_source(source, wheel, requirements)
            await build_source(builder, source, where, fetcher.download, locked=wheel)


def _key(name: str) -> str:
    return name if name == ALL_SOURCES else normalise(name)


def fitting(builds: Builds, platform: Platform, contents: ImageContents, projects: Sequence[Project]) -> None:
    """Holds the wheels of projects against a base, which may be another than they were built for."""
    for project in projects:
        if project.wheel:
            builds.builder(platform, contents).check(project.wheel, project.folder)
