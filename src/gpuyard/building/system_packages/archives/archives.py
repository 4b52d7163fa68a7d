"""The base's archives, opened: each one's index fetched and its signature checked."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import lzma
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import zstandard

from gpuyard import errors
from gpuyard.building.system_packages.archives.debian_index import DebianIndex
from gpuyard.building.system_packages.archives.fetch import Fetcher, open_fetcher
from gpuyard.building.system_packages.archives.release import IndexFile, ReleaseFile
from gpuyard.building.system_packages.archives.signatures import Keyring
from gpuyard.building.system_packages.archives.sources import AptSource, AptSources, masked
from gpuyard.images.cache import Cache

_RELEASES, _INDEXES = "apt-releases", "apt-indexes"
#: Most wanted first: what is small to fetch.
_PACKINGS = (".xz", ".zst", ".gz", ".bz2", "")


@dataclass(frozen=True)
class PackageArchive:
    """One source with its signed index.

    Attributes:
        number: its place in the base's list.
    """

    source: AptSource
    release: ReleaseFile
    number: int


@dataclass(frozen=True)
class Archives:
    """All of a base's archives."""

    opened: tuple[PackageArchive, ...]
    arch: str
    fetcher: Fetcher
    cache: Cache

    async def fetch_indexes(
        self, path: str, of: Callable[[ReleaseFile], bool] = lambda release: True
    ) -> list[tuple[PackageArchive, DebianIndex]]:
        """The index of packages of each archive and component that has it.

        Args:
            path: below a component's folder, without the packing's ending: `binary-amd64/Packages`; in an
                archive without components, its last part.
            of: which archives are asked.

        Raises:
            BuildError: one can't be fetched, or isn't what the archive signed.
        """
        wanted = []
        for archive in filter(lambda archive: of(archive.release), self.opened):
            for component in archive.source.components or ("",):
                name = f"{component}/{path}" if component else path.rpartition("/")[2]
                if file := _smallest(archive.release, name):
                    wanted.append((archive, file))
        indexes = await asyncio.gather(*(self._index(archive, file) for archive, file in wanted))
        return [(archive, index) for (archive, _), index in zip(wanted, indexes, strict=True)]

    async def _index(self, archive: PackageArchive, file: IndexFile) -> DebianIndex:
        with suppress(OSError, ValueError):  # A damaged entry is as good as none.
            return await asyncio.to_thread(DebianIndex.read, self._kept(file))
        path = await self.fetch_file(archive, file)
        return await asyncio.to_thread(self._keep, path, file)

    async def fetch_file(self, archive: PackageArchive, file: IndexFile) -> Path:
        """One of an archive's indexes, as it is packed.

        Raises:
            BuildError: it can't be fetched, or isn't what the archive signed.
        """
        folder, _, _ = file.path.rpartition("/")
        base = archive.source.dists
        urls = [base + file.path]
        if archive.release.by_hash:
            urls.insert(0, f"{base}{folder + '/' if folder else ''}by-hash/SHA256/{file.sha256}")
        for url in urls:
            path = await self.fetcher.fetch(url, file.sha256, file.size, _INDEXES, file.sha256)
            if path is not None:
                return path
        self.fetcher.check_refused(urls)
        raise errors.BuildError(
            f"{archive.source} lists {file.path} and hasn't got it",
            remedy="the mirror is being renewed or damaged: build again later, or use another "
            "(GPUYARD_APT_MIRRORS)",
        )

    def _kept(self, file: IndexFile) -> Path:
        return self.cache.path(_INDEXES, f"{file.sha256}.packages-2")

    def _keep(self, path: Path, file: IndexFile) -> DebianIndex:
        try:
            index = DebianIndex.parse(_unpacked(path, file.path).decode("utf-8", "replace"))
        except errors.BuildError:
            # Another build may have done so in the meantime.
            with suppress(OSError, ValueError):
                return DebianIndex.read(self._kept(file))
            raise
        with self.cache.new_file(_INDEXES, self._kept(file).name) as kept:
            index.write(kept)
        path.unlink(missing_ok=True)
        return index


@asynccontextmanager
async def open_archives(
    sources: AptSources,
    arch: str,
    files: Mapping[str, bytes],
    cache: Cache,
    environ: Mapping[str, str],
    now: datetime,
    say: Callable[[str], None],
) -> AsyncIterator[Archives]:
    """Fetches and checks the index of every source.

    Args:
        sources: of the base.
        arch: Debian's name of the architecture.
        files: of the base, for its keyrings.
        cache: where indexes are kept, and the newest Release that each source ever gave.
        environ: for further certificate authorities.
        now: against which an index is too old or too new.
        say: told what the user should read.

    Raises:
        BuildError: one can't be reached, isn't signed by a key of the base's, or is outdated.
    """
    async with open_fetcher(cache, environ) as fetcher:
        opening = _Opening(fetcher, files, cache, now, say)
        opened = await asyncio.gather(*(opening.open(source) for source in sources.found))
        archives = tuple(
            PackageArchive(s, r, n) for n, (s, r) in enumerate(zip(sources.found, opened, strict=True))
        )
        yield Archives(archives, arch, fetcher, cache)


@dataclass(frozen=True)
class _Opening:
    fetcher: Fetcher
    files: Mapping[str, bytes]
    cache: Cache
    now: datetime
    say: Callable[[str], None]

    async def open(self, source: AptSource) -> ReleaseFile:
        if source.trusted:
            self.say(f"{source}: its signature isn't checked, since {source.where} of the base trusts it")
        offered = await self._offered(source)
        release = self._checked(source, offered)
        release.check_dates(source, self.now)
        return self._newest(source, offered, release)

    async def _offered(self, source: AptSource) -> _Signed:
        """The Release's text, from InRelease or from Release with its signature apart."""
        content = await self.fetcher.get(source.dists + "InRelease")
        if content is not None:
            return _Signed(content)
        content = await self.fetcher.get(source.dists + "Release")
        if content is None:
            self.fetcher.check_refused(source.dists + name for name in ("InRelease", "Release"))
            raise errors.BuildError(
                f"{masked(source.dists)} has neither InRelease nor Release: {source} of the base's "
                f"{source.where} isn't there any more",
                remedy="choose a newer base, or name another place for it with "
                "GPUYARD_APT_MIRRORS=FROM=TO (Debian's old releases are at archive.debian.org)",
            )
        if source.trusted:
            return _Signed(content)
        signature = await self.fetcher.get(source.dists + "Release.gpg")
        if signature is None:
            self.fetcher.check_refused([source.dists + "Release.gpg"])
            raise errors.BuildError(
                f"the index of {source} isn't signed",
                remedy="leave the source out (GPUYARD_APT_MIRRORS), or have it signed; a base whose "
                "own source says trusted=yes takes it as it is",
            )
        return _Signed(content, signature)

    def _checked(self, source: AptSource, signed: _Signed) -> ReleaseFile:
        """What is signed by a key of this base's; raises BuildError."""
        if source.trusted:
            return ReleaseFile.parse(_clear_text(signed.content), source)
        text = Keyring(source, self.files).verified(signed.content, signed.signature)
        return ReleaseFile.parse(text, source)

    def _newest(self, source: AptSource, offered: _Signed, release: ReleaseFile) -> ReleaseFile:
        """Nobody may hand out an older index than this machine has seen from the same address.

        What was kept is checked again: a base that trusts other keys, or needs none, may have kept it.
        """
        trust = "unsigned" if source.trusted else "signed"
        name = hashlib.sha256(f"{source.uri} {source.suite} {trust}".encode()).hexdigest() + ".json"
        kept = _Signed.of(self.cache.read(_RELEASES, name))
        if kept and kept != offered and release.date:
            with suppress(errors.BuildError):
                before = self._checked(source, kept)
                before.check_dates(source, self.now)
                if before.date and before.date > release.date:
                    self.say(
                        f"{source} offers an index of {release.date:%Y-%m-%d %H:%M}, and had one of "
                        f"{before.date:%Y-%m-%d %H:%M} before: that one is used"
                    )
                    return before
        if kept != offered:
            self.cache.write(_RELEASES, name, offered.to_json())
        return release


@dataclass(frozen=True)
class _Signed:
    """A Release as its archive gave it: signed within, or with a signature apart."""

    content: bytes
    signature: bytes | None = None

    @classmethod
    def of(cls, raw: Mapping[str, object] | None) -> _Signed | None:
        """From the cache; None for what is none."""
        try:
            content, signature = (raw or {})["content"], (raw or {})["signature"]
            return cls(b64decode(str(content)), b64decode(str(signature)) if signature else None)
        except (KeyError, ValueError):
            return None

    def to_json(self) -> dict[str, str]:
        signature = b64encode(self.signature).decode() if self.signature else ""
        return {"content": b64encode(self.content).decode(), "signature": signature}


def _clear_text(content: bytes) -> bytes:
    """What is between the marks of a text that is signed within."""
    if not content.startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        return content
    _, _, rest = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    return rest.partition(b"\n-----BEGIN PGP SIGNATURE-----")[0] + b"\n"


def _smallest(release: ReleaseFile, name: str) -> IndexFile | None:
    return next((file for end in _PACKINGS if (file := release.files.get(name + end))), None)


def _unpacked(path: Path, name: str) -> bytes:
    try:
        content = path.read_bytes()
        if name.endswith(".xz"):
            return lzma.decompress(content)
        if name.endswith(".gz"):
            return gzip.decompress(content)
        if name.endswith(".bz2"):
            return bz2.decompress(content)
        if name.endswith(".zst"):
            inflate = zstandard.ZstdDecompressor().decompressobj()
            unpacked: bytes = inflate.decompress(content)
            if not inflate.eof:
                raise EOFError("it ends too soon")
            return unpacked
    except (OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError, ValueError, EOFError) as error:
        raise errors.BuildError(f"the index {name} can't be unpacked: {error}") from error
    return content
