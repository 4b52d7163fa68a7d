"""Layers of wheels: one for each large one, one for the rest; known by what they are made of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard.building.environment import PREFIX
from gpuyard.building.layers.placement import ground, placed
from gpuyard.building.layers.planned_layer import layer_key
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.python.byte_code import Compiler, compile_wheel
from gpuyard.building.python.wheels import Wheel, check_size, missing_wheels, wheel_path
from gpuyard.building.work import Reporter
from gpuyard.images.cache import Cache
from gpuyard.images.layers import Compression, Entry, Packer

if TYPE_CHECKING:
    from gpuyard.building.python.resolve import Resolver

#: Raised whenever this code makes another layer of the same wheels.
_FORMAT = 3


@dataclass(frozen=True)
class WheelStock:
    """Has wheels and their byte code on this machine.

    Attributes:
        plan: of the platform that they are for.
        compiler: None for no byte code.
        folder: where uv looks for its configuration.
    """

    plan: PlatformPlan
    compiler: Compiler | None
    folder: Path
    cache: Cache
    environ: Mapping[str, str]
    reporter: Reporter

    async def prepare(self, wheels: Sequence[Wheel]) -> dict[Wheel, Path]:
        """Has the wheels in the cache, and their byte code; returns the latter."""
        from gpuyard.building.layers.wheel_conflicts import check_wheels  # Most builds have their layers.

        codes: dict[Wheel, Path] = {}
        compiling = asyncio.Semaphore(os.cpu_count() or 1)

        async def compiled(wheel: Wheel) -> None:
            if self.compiler:
                async with compiling:
                    path = wheel_path(self.cache, wheel)
                    site = self.plan.environment.site_packages
                    codes[wheel] = await compile_wheel(self.cache, path, wheel.sha256, self.compiler, site)

        missing = await asyncio.to_thread(missing_wheels, self.cache, wheels)
        await self._built([wheel for wheel in missing if wheel.source])
        sources = await self._sources([w for w in missing if not wheel_path(self.cache, w).exists()])
        async with asyncio.TaskGroup() as tasks:
            for wheel in wheels:
                if wheel not in sources:
                    tasks.create_task(compiled(wheel), name=f"compile {wheel.file}")
            if sources:
                from gpuyard.building.python.index.fetching import wheel_fetcher

                fetcher = wheel_fetcher(self.cache, self.environ, self.folder, self._file)
                fetching = fetcher.fetch(
                    sources,
                    then=compiled,
                    progress=lambda n, of: self.reporter.bytes("fetching wheels", n, of),
                )
                tasks.create_task(fetching, name="fetch wheels")
        check_wheels(self.plan, wheels, self.folder, self.cache, self.environ)
        return codes

    @property
    def _file(self) -> Path | None:
        return self.plan.requirements.file if self.plan.requirements else None

    def _resolver(self) -> Resolver:
        from gpuyard.building.python.resolve import Resolver

        plan = self.plan
        own = plan.requirements.requested if plan.requirements else None
        return Resolver(self.environ, self.folder, plan.platform, plan.contents, own=own)

    async def _built(self, missing: Sequence[Wheel]) -> None:
        if missing and (requirements := self.plan.requirements):
            builder = requirements.builds.builder(self.plan.platform, self.plan.contents)
            await requirements.builds.again(missing, builder, self._resolver(), requirements.file)

    async def _sources(self, missing: Sequence[Wheel]) -> dict[Wheel, str]:
        sources = {wheel: self.plan.sources[wheel] for wheel in missing if wheel in self.plan.sources}
        if unknown := [wheel for wheel in missing if wheel not in sources]:
            sources |= await self._resolver().locate(unknown, self._file)
        return sources


def title_of_wheels(wheels: Sequence[Wheel]) -> str:
    """Of the layer that they are in."""
    return f"{wheels[0].name} {wheels[0].version}" if len(wheels) == 1 else f"{len(wheels)} wheels"


@dataclass(frozen=True)
class WheelLayer:
    """A planned layer.

    Attributes:
        wheels: sorted; a later one's file wins where two have the same.
        stock: where the wheels come from.
        mtime: of everything in it, Unix time in seconds.
    """

    wheels: tuple[Wheel, ...]
    stock: WheelStock
    mtime: int
    compression: Compression
    _codes: dict[Wheel, Path] = field(default_factory=dict, init=False, compare=False)

    @property
    def title(self) -> str:
        """For people: the wheel, or how many."""
        return title_of_wheels(self.wheels)

    @property
    def holds(self) -> str:
        """Every wheel, for the image's history."""
        return ", ".join(f"{wheel.name} {wheel.version}" for wheel in self.wheels)

    @property
    def key(self) -> str:
        """See `PlannedLayer`."""
        compiler = self.stock.compiler
        parts = [str(_FORMAT), PREFIX, self.stock.plan.environment.python.version]
        parts += [compiler.version if compiler else "", str(self.mtime), self.compression.name]
        parts += filter(None, [ground(PREFIX, self.stock.plan.contents.folders)])
        return layer_key(*parts, *(f"{wheel.file} {wheel.size} {wheel.sha256}" for wheel in self.wheels))

    @property
    def size(self) -> int:
        """Of the wheels, which are compressed better than layers are."""
        return sum(wheel.size for wheel in self.wheels)

    async def prepare(self) -> None:
        """See `PlannedLayer`."""
        self._codes.update(await self.stock.prepare(self.wheels))

    def pack(self) -> Packer:
        """Packs the wheels as they lie in the cache, with the zips of their byte code."""
        return Packer.of_entries(self._entries(), self.mtime, self.compression)

    def _entries(self) -> Iterator[Entry]:
        # Only for what isn't packed yet: a build that finds its layers doesn't wait for this.
        from gpuyard.building.python.wheel_files import InstalledWheel
        from gpuyard.building.python.zip_file import ZipFile

        with ExitStack() as stack:
            entries: list[Entry] = []
            for wheel in self.wheels:
                path = wheel_path(self.stock.cache, wheel)
                check_size(wheel, path)
                opened = stack.enter_context(ZipFile(path, wheel.file))
                compiled = self._codes.get(wheel)
                codes = stack.enter_context(ZipFile(compiled)) if compiled else None
                entries += InstalledWheel(opened, codes, self.stock.plan.environment).entries()
            yield from placed(entries, self.stock.plan.contents.folders)


def group_wheels(wheels: Sequence[Wheel], layers_left: int) -> list[tuple[Wheel, ...]]:
    """Which wheels share a layer: the large ones have their own as long as there are layers left.

    Args:
        wheels: of the lock.
        layers_left: how many layers the image may get for wheels; at least 1.
    """
    largest = sorted((wheel for wheel in wheels if wheel.large), key=lambda wheel: -wheel.size)
    alone = sorted(largest[: layers_left - 1])
    rest = tuple(sorted(set(wheels) - set(alone)))
    return [(wheel,) for wheel in alone] + ([rest] if rest else [])
