"""Wheels by name, size and hash, and the verified cache that they are fetched into."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gpuyard import errors
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import normalise

if TYPE_CHECKING:
    import httpx

#: A wheel above this size gets a layer of its own: torch, the CUDA libraries, triton.
LARGE_BYTES = 50_000_000

_KIND = "wheels"
_FILE = re.compile(r"(?P<name>[^-/]+)-(?P<version>[^-/]+)(?:-\d[^-/]*)?-[^-/]+-[^-/]+-[^-/]+\.whl")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ATTEMPTS = 4
_PARALLEL = 6
_TIMEOUT_S = 60.0
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX")

#: Told bytes so far and bytes in all.
FetchProgress = Callable[[int, int], None]


@dataclass(frozen=True, order=True)
class Wheel:
    """One wheel of a lock.

    Attributes:
        file: its file name, which says name, version and tags.
        sha256: hex digits of the file's hash.
        size: of the file in bytes; 0 when its index doesn't say.
    """

    file: str
    sha256: str
    size: int = 0

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.file):
            raise errors.BuildError(f"{self.file!r} is not the file name of a wheel")
        if not _SHA256.fullmatch(self.sha256):
            raise errors.BuildError(
                f"{self.file} has no sha256 hash, so nobody could tell it from another file",
                remedy="use an index that gives hashes, then build with --upgrade",
            )

    @property
    def name(self) -> str:
        """Normalised name of the distribution."""
        return normalise(self.file.partition("-")[0])

    @property
    def version(self) -> str:
        """As the file name says it."""
        return self.file.split("-")[1]

    @property
    def large(self) -> bool:
        """Whether it gets a layer of its own."""
        return self.size > LARGE_BYTES


def wheel_file(source: str) -> str:
    """The file's name at the end of a URL or a path, of which a URL writes `+` as `%2B`."""
    return unquote(source.partition("#")[0].partition("?")[0]).rpartition("/")[2]


def wheel_path(cache: Cache, wheel: Wheel) -> Path:
    """Where a wheel is once it is fetched."""
    return cache.path(_KIND, f"{wheel.sha256}.whl")


def missing_wheels(cache: Cache, wheels: Sequence[Wheel]) -> list[Wheel]:
    """Those that must be fetched."""
    return [wheel for wheel in wheels if not wheel_path(cache, wheel).exists()]


class WheelFetcher:
    """Fetches locked wheels from where uv's index has them; a file with another hash is never kept.

    Args:
        cache: where to.
        environ: for the credentials in uv's index variables.
        pause_s: before a second attempt; it doubles with each further one.
    """

    def __init__(self, cache: Cache, environ: Mapping[str, str], *, pause_s: float = 0.5) -> None:
        self._cache = cache
        self._environ = environ
        self._pause_s = pause_s

    async def fetch(
        self,
        sources: Mapping[Wheel, str],
        *,
        then: Callable[[Wheel], Awaitable[None]],
        progress: FetchProgress,
    ) -> None:
        """Fetches several at once.

        Args:
            sources: URL or path by wheel.
            then: awaited for each wheel once it is there, while others are still on their way.
            progress: told of bytes.

        Raises:
            BuildError: one can't be had, or isn't what the lock says.
            CacheError: it can't be kept.
        """
        total = sum(wheel.size for wheel in sources)
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            progress(done, total)

        slots = asyncio.Semaphore(_PARALLEL)

        async def one(client: httpx.AsyncClient, wheel: Wheel, source: str) -> None:
            async with slots:
                await self._fetch(client, wheel, source, count)
            await then(wheel)

        try:
            async with (
                self._client() as client,
                asyncio.TaskGroup() as tasks,
            ):
                for wheel, source in sorted(sources.items()):
                    tasks.create_task(one(client, wheel, source), name=f"fetch {wheel.file}")
        except* errors.GpuyardError as group:
            raise group.exceptions[0] from None

    async def measured(self, sources: Mapping[Wheel, str]) -> dict[Wheel, str]:
        """The same with the sizes that the index didn't say, as HTML indexes such as PyTorch's never do.

        A size that can't be had stays 0, and its wheel in the layer of small ones.
        """
        unknown = [wheel for wheel in sources if not wheel.size]
        if not unknown:
            return dict(sources)
        slots = asyncio.Semaphore(_PARALLEL)
        async with self._client() as client:

            async def size(wheel: Wheel) -> int:
                async with slots:
                    return await self._size(client, sources[wheel])

            sizes = await asyncio.gather(*map(size, unknown))
        known = dict(zip(unknown, sizes, strict=True))
        return {replace(w, size=known.get(w, w.size)): source for w, source in sources.items()}

    async def _size(self, client: httpx.AsyncClient, source: str) -> int:
        import httpx

        path = _local(source)
        try:
            if path is not None:
                return path.stat().st_size
            auth = self._credentials(source) or httpx.USE_CLIENT_DEFAULT
            answer = await client.head(source, headers={"Accept-Encoding": "identity"}, auth=auth)
        except (OSError, httpx.HTTPError):
            return 0
        length = answer.headers.get("content-length", "") if answer.is_success else ""
        return int(length) if length.isdecimal() else 0

    def _client(self) -> httpx.AsyncClient:
        import httpx

        context = httpx.create_ssl_context()
        context.load_default_certs()
        return httpx.AsyncClient(verify=context, follow_redirects=True, timeout=_TIMEOUT_S)

    async def _fetch(
        self, client: httpx.AsyncClient, wheel: Wheel, source: str, count: Callable[[int], None]
    ) -> None:
        import httpx

        path = _local(source)
        if path is not None:
            await asyncio.to_thread(self._copy, wheel, path)
            count(wheel.size)
            return
        for attempt in range(1, _ATTEMPTS + 1):
            counted = 0

            def add(size: int) -> None:
                nonlocal counted
                counted += size
                count(size)

            try:
                await self._download(client, wheel, source, add)
                return
            except httpx.HTTPError as error:
                count(-counted)
                status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
                if attempt == _ATTEMPTS or (400 <= status < 500 and status not in (408, 429)):
                    raise errors.BuildError(
                        f"can't fetch {wheel.file}: {status or str(error) or type(error).__name__}",
                        remedy="see that this machine reaches the package index, and build again",
                    ) from error
                await asyncio.sleep(self._pause_s * 2 ** (attempt - 1))

    async def _download(
        self, client: httpx.AsyncClient, wheel: Wheel, url: str, count: Callable[[int], None]
    ) -> None:
        import httpx

        sha256 = hashlib.sha256()
        headers = {"Accept-Encoding": "identity"}
        # Without credentials of its own, a request gets those of ~/.netrc.
        auth = self._credentials(url) or httpx.USE_CLIENT_DEFAULT
        # A file that turns out to be another one must not get the name that only verified files have.
        with self._cache.new_file(_KIND, f"{wheel.sha256}.whl") as file:
            async with client.stream("GET", url, headers=headers, auth=auth) as response:
                response.raise_for_status()
                async for piece in response.aiter_bytes(1 << 18):
                    sha256.update(piece)
                    file.write(piece)
                    count(len(piece))
            _check(wheel, sha256.hexdigest())

    def _copy(self, wheel: Wheel, path: Path) -> None:
        try:
            with path.open("rb") as source:
                found = hashlib.file_digest(source, "sha256").hexdigest()
                _check(wheel, found)
                source.seek(0)
                with self._cache.new_file(_KIND, f"{wheel.sha256}.whl") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            raise errors.BuildError(f"can't read {path}: {error.strerror}") from error

    def _credentials(self, url: str) -> tuple[str, str] | None:
        """Those that uv's index variables have for this host."""
        host = urlsplit(url).hostname
        for variable in _INDEX_VARIABLES:
            for word in self._environ.get(variable, "").split():
                index = urlsplit(word.rpartition("=")[2] if "=" in word.partition("://")[0] else word)
                if index.hostname == host and index.username:
                    return unquote(index.username), unquote(index.password or "")
        return None


def _check(wheel: Wheel, found: str) -> None:
    if found != wheel.sha256:
        raise errors.BuildError(
            f"{wheel.file} is not the file that was locked: its hash is {found}, not {wheel.sha256}",
            remedy="if the index has replaced it knowingly, build with --upgrade",
        )


def _local(source: str) -> Path | None:
    """The path of a source that is a file here."""
    if source.startswith("file://"):
        return Path(unquote(urlsplit(source).path))
    return None if "://" in source else Path(source)
