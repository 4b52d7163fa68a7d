"""Fetches wheels into the verified cache, logged in as uv would be."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from gpuyard import errors
from gpuyard.building.http_attempts import with_attempts
from gpuyard.building.python.index.logins import IndexLogins
from gpuyard.building.python.index.settings import UvSettings, read_settings
from gpuyard.building.python.resolving.requirements_file import Requirements
from gpuyard.building.python.wheels import Wheel, local_path, wheel_path
from gpuyard.images.cache import Cache
from gpuyard.images.transfer import first_error
from gpuyard.proxying_transport import ProxyingTransport

_PARALLEL = 6
_TIMEOUT_S = 60.0
#: What an index says to somebody who isn't logged in; some hide what there is behind the last.
_REFUSALS = (401, 403, 404)
#: A mirror's answers to HEAD that say nothing of GET.
_NO_HEAD = (403, 405, 501)
_WHOLE = {"Accept-Encoding": "identity"}

#: Told bytes so far and bytes in all.
FetchProgress = Callable[[int, int], None]


class _Login(httpx.Auth):
    """Sends what is known of a host, and the next when that is refused."""

    def __init__(self, logins: IndexLogins) -> None:
        self._logins = logins

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        url = str(request.url)
        request.headers.pop("Authorization", None)
        async for header in self._logins.headers(url):
            if header:
                request.headers["Authorization"] = header
            response = yield request
            if response.status_code not in _REFUSALS:
                if header:
                    self._logins.took(url, header)
                return


class WheelFetcher:
    """Fetches locked wheels from where uv's index has them; a file with another hash is never kept.

    Args:
        cache: where to.
        settings: of uv.
        environ: for logins and certificates.
        folder: where uv looks for its configuration.
        pause_s: before a second attempt; it doubles with each further one.
    """

    def __init__(
        self,
        cache: Cache,
        settings: UvSettings,
        environ: Mapping[str, str],
        folder: Path,
        *,
        pause_s: float = 0.5,
    ) -> None:
        self._cache = cache
        self._settings = settings
        self._environ = environ
        self._login = _Login(IndexLogins(settings, environ, folder))
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

        async def one(client: httpx.AsyncClient, wheel: Wheel, source: str) -> None:
            async with slots:
                await self._fetch(client, wheel, source, count)
            await then(wheel)

        slots = asyncio.Semaphore(_PARALLEL)
        try:
            async with (
                self._client() as client,
                asyncio.TaskGroup() as tasks,
            ):
                for wheel, source in sorted(sources.items()):
                    tasks.create_task(one(client, wheel, source), name=f"fetch {wheel.file}")
        except BaseExceptionGroup as group:
            raise first_error(group) from None

    async def measured(self, sources: Mapping[Wheel, str]) -> dict[Wheel, str]:
        """The same with the sizes that the index didn't say, as HTML indexes such as PyTorch's never do.

        A size that nobody says stays 0, and its wheel in the layer of small ones.

        Raises:
            BuildError: one can't be had.
        """
        unknown = [wheel for wheel in sources if not wheel.size]
        if not unknown:
            return dict(sources)
        slots = asyncio.Semaphore(_PARALLEL)
        sizes: dict[Wheel, int] = {}
        async with self._client() as client:

            async def measure(wheel: Wheel) -> None:
                async with slots:
                    sizes[wheel] = await self._size(client, wheel, sources[wheel])

            try:
                async with asyncio.TaskGroup() as tasks:
                    for wheel in unknown:
                        tasks.create_task(measure(wheel), name=f"size of {wheel.file}")
            except BaseExceptionGroup as group:
                raise first_error(group) from None
        return {replace(w, size=sizes.get(w, w.size)): source for w, source in sources.items()}

    async def _size(self, client: httpx.AsyncClient, wheel: Wheel, source: str) -> int:
        path = local_path(source)
        if path is not None:
            try:
                return path.stat().st_size
            except OSError as error:
                raise errors.BuildError(f"can't read {path}: {error.strerror}") from error
        kept = wheel_path(self._cache, wheel)
        if kept.exists():
            return kept.stat().st_size
        sizes: list[int] = []

        async def ask() -> None:
            answer = await client.head(source, headers=_WHOLE, auth=self._login)
            if answer.status_code in _NO_HEAD:
                async with client.stream("GET", source, headers=_WHOLE, auth=self._login) as answer:
                    answer.raise_for_status()
            answer.raise_for_status()
            length = answer.headers.get("content-length", "")
            sizes.append(int(length) if length.isdecimal() else 0)

        await with_attempts(ask, self._pause_s, partial(_unfetched, wheel.file, source))
        return sizes[-1]

    async def download(self, source: str, place: Path) -> None:
        """Fetches an archive of sources, which the caller holds against its hash; raises BuildError."""
        path = local_path(source)
        if path is not None:
            try:
                await asyncio.to_thread(shutil.copyfile, path, place)
            except OSError as error:
                raise errors.BuildError(f"can't read {path}: {error.strerror}") from error
            return

        async def work() -> None:
            async with self._client() as client, client.stream("GET", source, auth=self._login) as response:
                response.raise_for_status()
                with place.open("wb") as file:
                    async for piece in response.aiter_raw(1 << 18):
                        file.write(piece)

        await with_attempts(work, self._pause_s, partial(_unfetched, place.name, source))

    def _client(self) -> httpx.AsyncClient:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()
        self._load("SSL_CERT_FILE", context.load_verify_locations)
        self._load("SSL_CERT_DIR", lambda folder: context.load_verify_locations(capath=folder))
        self._load("SSL_CLIENT_CERT", context.load_cert_chain)
        unchecked = {
            f"https://{host}": ProxyingTransport(verify=False) for host in self._settings.insecure_hosts
        }
        return httpx.AsyncClient(
            transport=ProxyingTransport(context), mounts=unchecked, follow_redirects=True, timeout=_TIMEOUT_S
        )

    def _load(self, variable: str, load: Callable[[str], None]) -> None:
        """Certificates of a file that uv's variable names."""
        if path := self._environ.get(variable):
            try:
                load(path)
            except OSError as error:  # ssl.SSLError is one
                raise errors.UsageError(
                    f"can't read the certificates {path} that {variable} names: {error.strerror or error}",
                    remedy="name a file of certificates in PEM, or unset it",
                ) from error

    async def _fetch(
        self, client: httpx.AsyncClient, wheel: Wheel, source: str, count: Callable[[int], None]
    ) -> None:
        path = local_path(source)
        if path is not None:
            await asyncio.to_thread(self._copy, wheel, path)
            count(wheel.size)
            return

        async def download() -> None:
            counted = 0

            def add(size: int) -> None:
                nonlocal counted
                counted += size
                count(size)

            try:
                await self._download(client, wheel, source, add)
            except httpx.HTTPError:
                count(-counted)
                raise

        await with_attempts(download, self._pause_s, partial(_unfetched, wheel.file, source))

    async def _download(
        self, client: httpx.AsyncClient, wheel: Wheel, url: str, count: Callable[[int], None]
    ) -> None:
        sha256 = hashlib.sha256()
        # A file that turns out to be another one must not get the name that only verified files have.
        path = wheel_path(self._cache, wheel)
        with self._cache.new_file(path.parent.name, path.name) as file:
            async with client.stream("GET", url, headers=_WHOLE, auth=self._login) as response:
                response.raise_for_status()
                async for piece in response.aiter_bytes(1 << 18):
                    sha256.update(piece)
                    file.write(piece)
                    count(len(piece))
            _check(wheel, sha256.hexdigest())

    def _copy(self, wheel: Wheel, path: Path) -> None:
        kept = wheel_path(self._cache, wheel)
        try:
            with path.open("rb") as source:
                found = hashlib.file_digest(source, "sha256").hexdigest()
                _check(wheel, found)
                source.seek(0)
                with self._cache.new_file(kept.parent.name, kept.name) as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            raise errors.BuildError(
                f"can't read {path}: {error.strerror}",
                remedy="make the wheel again, or build with --upgrade to lock what there is now",
            ) from error


def wheel_fetcher(
    cache: Cache, environ: Mapping[str, str], folder: Path, requirements: Path | None
) -> WheelFetcher:
    """One that knows what uv's configuration and the requirements say.

    Args:
        cache: where to.
        environ: of uv.
        folder: where uv looks for its configuration.
        requirements: the file, if any.
    """
    asked = Requirements(requirements.absolute(), environ) if requirements else None
    return WheelFetcher(cache, read_settings(environ, folder, asked), environ, folder)


def _unfetched(file: str, url: str, error: Exception, status: int) -> errors.BuildError:
    host = urlsplit(url).netloc.rpartition("@")[2]
    if status in (401, 403):
        return errors.BuildError(
            f"can't fetch {file}: {host} answers {status} to the login that uv has for it, or to none",
            remedy=f"log in with `uv auth login {host}`, ~/.netrc, or UV_INDEX_NAME_USERNAME and "
            "UV_INDEX_NAME_PASSWORD",
        )
    if status in (404, 410):
        return errors.BuildError(
            f"can't fetch {file}: {host} has it no longer ({status})",
            remedy="build with --upgrade to lock what it has now",
        )
    reason = f"{host} answers {status}" if status else f"{host}: {error or type(error).__name__}"
    return errors.BuildError(
        f"can't fetch {file}: {reason}",
        remedy="see that this machine reaches the package index, and build again",
    )


def _check(wheel: Wheel, found: str) -> None:
    if found != wheel.sha256:
        raise errors.BuildError(
            f"{wheel.file} is not the file that was locked: its hash is {found}, not {wheel.sha256}",
            remedy="if it was replaced knowingly, build with --upgrade",
        )
