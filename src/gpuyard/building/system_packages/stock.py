"""Has the files of locked packages on this machine, and what is in them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.building.system_packages.archives.fetch import Fetcher, open_fetcher
from gpuyard.building.system_packages.archives.sources import AptSource, masked
from gpuyard.building.system_packages.locked import DEBS, SystemPackage
from gpuyard.building.system_packages.unpacking.deb import Deb, unpack_deb
from gpuyard.images.cache import Cache
from gpuyard.images.transfer import first_error


@dataclass(frozen=True)
class DebStock:
    """Fetches packages from whichever of the base's archives has them; their hashes are in the lock.

    Attributes:
        sources: gives the base's; asked only when something must be fetched.
        progress: told bytes so far and in all.
    """

    sources: Callable[[], Sequence[AptSource]]
    cache: Cache
    environ: Mapping[str, str]
    progress: Callable[[int, int], None]

    async def prepare(self, packages: Sequence[SystemPackage]) -> dict[str, Deb]:
        """What is in each package, by name; their files are in the cache afterwards.

        Raises:
            BuildError: one can't be had any more, or isn't what the lock says.
        """
        found = {package.name: self._kept(package) for package in packages}
        missing = [package for package in packages if not found[package.name]]
        if missing:
            found |= await self._fetch(missing)
        return {name: deb for name, deb in sorted(found.items()) if deb}

    def _kept(self, package: SystemPackage) -> Deb | None:
        raw = self.cache.read(DEBS, f"{package.sha256}.json")
        try:
            return Deb.of(raw) if raw and package.kept(self.cache).exists() else None
        except (KeyError, TypeError, ValueError):  # a damaged entry is as good as none
            return None

    async def _fetch(self, missing: Sequence[SystemPackage]) -> dict[str, Deb]:
        total = sum(package.size for package in missing)
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            self.progress(done, total)

        addresses = list(dict.fromkeys(source.uri for source in self.sources()))
        # One is often as large as all others: it begins first, and has a core of its own.
        missing = sorted(missing, key=lambda package: package.size, reverse=True)
        unpacking = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        try:
            async with open_fetcher(self.cache, self.environ) as fetcher, asyncio.TaskGroup() as tasks:
                fetching = {
                    package.name: tasks.create_task(
                        self._fetch_one(fetcher, package, addresses, unpacking, count),
                        name=f"fetch {package.name}",
                    )
                    for package in missing
                }
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        return {name: task.result() for name, task in fetching.items()}

    async def _fetch_one(
        self,
        fetcher: Fetcher,
        package: SystemPackage,
        addresses: Sequence[str],
        unpacking: asyncio.Semaphore,
        count: Callable[[int], None],
    ) -> Deb:
        urls = [address + package.path.replace("%", "%25").replace("+", "%2B") for address in addresses]
        for url in urls:
            path = await fetcher.fetch(
                url, package.sha256, package.size, DEBS, f"{package.sha256}.deb", count
            )
            if path:
                async with unpacking:
                    return await asyncio.to_thread(self._unpack, package, path)
        fetcher.check_refused(urls)
        asked = ", ".join(map(masked, addresses))
        raise errors.BuildError(
            f"{package} is locked, and the base's archives don't have it any more: {asked}",
            remedy="archives drop a version when a newer one comes: lock anew with --upgrade, or name a "
            "place that keeps old ones with GPUYARD_APT_MIRRORS=FROM=TO (for Debian http://snapshot.debian.org)",
        )

    def _unpack(self, package: SystemPackage, path: Path) -> Deb:
        """Keeps what is in a package instead of the package."""
        try:
            with self.cache.new_file(DEBS, f"{package.sha256}.tar.zst") as kept:
                deb = unpack_deb(path, package.name, kept)
        except errors.ImageError:
            # Another build may have done so in the meantime.
            if not path.exists() and (found := self._kept(package)):
                return found
            raise
        self.cache.write(DEBS, f"{package.sha256}.json", deb.to_json())
        path.unlink(missing_ok=True)
        return deb
