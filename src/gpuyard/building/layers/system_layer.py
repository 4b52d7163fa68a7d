"""The layer of system packages: their files where dpkg would put them, its databases, the loader's cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpuyard.building.layers.planned_layer import layer_key
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.system_packages.choose import Chooser
from gpuyard.building.system_packages.locked import SystemPackage, debian_arch
from gpuyard.building.system_packages.stock import DebStock
from gpuyard.building.system_packages.unpacking.deb import ForwardTar
from gpuyard.building.system_packages.unpacking.scripts import script_effects
from gpuyard.building.system_packages.unpacking.unpacked import Unpacked
from gpuyard.building.work import Reporter
from gpuyard.elf import Elf
from gpuyard.images.cache import Cache
from gpuyard.images.contents.kept import read_system
from gpuyard.images.layers import Compression, Packer

#: Raised whenever this code makes another layer of the same packages.
_FORMAT = "system packages 2"


def title_of_packages(packages: Sequence[SystemPackage]) -> str:
    """Of the layer that they are in."""
    return str(packages[0]) if len(packages) == 1 else f"{len(packages)} system packages"


@dataclass(frozen=True)
class SystemLayer:
    """A planned layer.

    Attributes:
        packages: sorted.
        base: digest of the base's manifest, on whose databases the layer stands.
        mtime: of everything in it, Unix time in seconds.
        load: has on this machine what the layer is made of.
        say: told what the user should read.
    """

    packages: tuple[SystemPackage, ...]
    base: str
    mtime: int
    compression: Compression
    cache: Cache
    load: Callable[[], Awaitable[Unpacked]]
    say: Callable[[str], None]
    _loaded: list[Unpacked] = field(default_factory=list, init=False, compare=False)

    @property
    def title(self) -> str:
        """For people: the package, or how many."""
        return title_of_packages(self.packages)

    @property
    def holds(self) -> str:
        """Every package, for the image's history."""
        return ", ".join(map(str, self.packages))

    @property
    def key(self) -> str:
        """See `PlannedLayer`."""
        parts = [_FORMAT, self.base, str(self.mtime), self.compression.name]
        # Which of them were asked for is in apt's database.
        return layer_key(*parts, *(f"{p.sha256} {p.asked}" for p in self.packages))

    @property
    def size(self) -> int:
        """Of the packages, which are compressed better than layers are."""
        return sum(package.size for package in self.packages)

    async def prepare(self) -> None:
        """See `PlannedLayer`."""
        unpacked = await self._unpacked()
        for name, deb in unpacked.debs.items():
            for effect in () if name in unpacked.made else script_effects(name, deb.extra):
                self.say(f"the script of the system package {name} isn't run: it {effect}")

    def pack(self) -> Packer:
        """See `PlannedLayer`."""
        (unpacked,) = self._loaded
        files = {package.name: package.kept(self.cache) for package in self.packages}
        entries = unpacked.entries(lambda name: ForwardTar(files[name], name))
        return Packer.of_entries(entries, self.mtime, self.compression)

    async def read_libraries(self) -> Mapping[str, Elf]:
        """The image's libraries by path, those of the base too; links by their names."""
        libraries, links = (await self._unpacked()).libraries()
        return libraries | {path: libraries[target] for path, target in links.items() if target in libraries}

    async def _unpacked(self) -> Unpacked:
        if not self._loaded:
            self._loaded.append(await self.load())
        return self._loaded[0]


def system_layer(
    plan: PlatformPlan,
    base: str,
    mtime: int,
    compression: Compression,
    cache: Cache,
    environ: Mapping[str, str],
    reporter: Reporter,
) -> SystemLayer:
    """The layer of a plan's system packages.

    Args:
        plan: of the platform; its lock has at least one.
        base: how the user calls the base.
        mtime: of everything in it, Unix time in seconds.
        compression: of the layer.
        cache: where packages are kept.
        environ: for mirrors and certificate authorities.
        reporter: hears how it goes on.
    """
    packages = plan.lock.system_packages
    arch = debian_arch(plan.platform)

    async def load() -> Unpacked:
        reading = f"reading the base {plan.base.digest[7:19]}"
        system = await read_system(plan.base, cache, lambda n, of: reporter.bytes(reading, n, of))
        chooser = Chooser(base, system.files, arch, cache, environ, reporter.say)
        stock = DebStock(
            lambda: chooser.sources().found,
            cache,
            environ,
            lambda n, of: reporter.bytes("fetching system packages", n, of),
        )
        debs = await stock.prepare(packages)
        asked = {package.name for package in packages if package.asked}
        return Unpacked(system, plan.contents.folders, debs, asked, arch)

    return SystemLayer(packages, plan.base.digest, mtime, compression, cache, load, reporter.say)
