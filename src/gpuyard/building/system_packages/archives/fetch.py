"""HTTP to archives: small files as a whole, large ones into the cache under their hash."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gpuyard import errors
from gpuyard.building.http_attempts import with_attempts
from gpuyard.building.python.index.netrc_logins import netrc_login
from gpuyard.building.system_packages.archives.sources import masked
from gpuyard.http_proxies import way_to
from gpuyard.images.cache import Cache

if TYPE_CHECKING:
    import httpx

#: A PEM file with further certificate authorities.
ENV_CA_FILE = "GPUYARD_APT_CA"
_PARALLEL = 6
_TIMEOUT_S = 60.0
_MOST_SMALL = 16 << 20
#: Some stores answer so of what isn't there, and a proxy or a mirror of what it withholds.
_REFUSED = 403
_ABSENT = (_REFUSED, 404, 410)


@dataclass(frozen=True)
class Fetcher:
    """Asks archives.

    Attributes:
        cache: where files go.
        pause_s: before a second attempt; it doubles with each further one.
        environ: says where the logins are for addresses that have none of their own.
        refused: addresses of which the answer was 403.
    """

    client: httpx.AsyncClient
    cache: Cache
    slots: asyncio.Semaphore
    pause_s: float = 0.5
    environ: Mapping[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def check_refused(self, urls: Iterable[str]) -> None:
        """For what none of these addresses has: raises BuildError where one says that it may not be had."""
        for url in self.refused.intersection(urls):
            raise errors.BuildError(
                f"can't fetch {masked(url)}: status 403, which a mirror or a proxy says of what it withholds",
                remedy="see that this machine may fetch it, or name a mirror that gives it out with "
                "GPUYARD_APT_MIRRORS=FROM=TO",
            )

    async def get(self, url: str) -> bytes | None:
        """A small file, or None where there is none; raises BuildError."""
        found = bytearray()

        def take(piece: bytes) -> None:
            found.extend(piece)
            if len(found) > _MOST_SMALL:
                raise errors.BuildError(
                    f"{masked(url)} is larger than any such file",
                    remedy="see that the address is an archive of packages",
                )

        return bytes(found) if await self._attempts(url, found.clear, take) else None

    async def fetch(
        self,
        url: str,
        sha256: str,
        size: int,
        kind: str,
        name: str,
        count: Callable[[int], None] | None = None,
    ) -> Path | None:
        """A file of known hash, from the cache or into it; None where there is none.

        Args:
            url: where it is.
            sha256: hex digits of its hash.
            size: in bytes.
            kind: the cache's folder.
            name: in it.
            count: told how many bytes more have come; less than none when they come again.

        Raises:
            BuildError: it can't be had, or is another file.
        """
        path = self.cache.path(kind, name)
        if path.exists():
            return path
        taken, hashed = 0, hashlib.sha256()
        with ExitStack() as stack:
            opened: list[IO[bytes]] = []

            def restart() -> None:
                nonlocal taken, hashed
                if not opened:
                    # Not before there is something: a file gets its name at the block's end.
                    opened.append(stack.enter_context(self.cache.new_file(kind, name)))
                if count:
                    count(-taken)
                taken, hashed = 0, hashlib.sha256()
                opened[0].seek(0)
                opened[0].truncate()

            def take(piece: bytes) -> None:
                nonlocal taken
                taken += len(piece)
                if taken > size:
                    raise _other(url, f"more than {size} bytes")
                hashed.update(piece)
                opened[0].write(piece)
                if count:
                    count(len(piece))

            if not await self._attempts(url, restart, take) and not opened:
                return None
            # A file that turns out to be another one must not get the name that only verified files have.
            if taken != size or hashed.hexdigest() != sha256:
                raise _other(url, f"{taken} bytes with SHA256 {hashed.hexdigest()}")
        return path

    async def _attempts(self, url: str, restart: Callable[[], object], take: Callable[[bytes], None]) -> bool:
        """Streams a file, from its beginning each time; False where there is none."""
        import httpx

        async def attempt() -> bool:
            login = None if (parts := httpx.URL(url)).userinfo else netrc_login(self.environ, parts.host)
            auth = httpx.BasicAuth(*login) if login else httpx.USE_CLIENT_DEFAULT
            headers = {"Accept-Encoding": "identity"}
            async with (
                self.slots,
                self.client.stream("GET", url, headers=headers, auth=auth) as response,
            ):
                if response.status_code in _ABSENT:
                    if response.status_code == _REFUSED:
                        self.refused.add(url)
                    return False
                response.raise_for_status()
                restart()
                async for piece in response.aiter_bytes(1 << 18):
                    take(piece)
                return True

        return await with_attempts(
            attempt, self.pause_s, lambda error, status: _unfetched(url, error, status)
        )


@asynccontextmanager
async def open_fetcher(cache: Cache, environ: Mapping[str, str]) -> AsyncIterator[Fetcher]:
    """A fetcher with its connections.

    Raises:
        UsageError: the file of certificate authorities can't be read.
    """
    import httpx

    from gpuyard.proxying_transport import ProxyingTransport

    trusted = partial(_trusted, environ)
    if environ.get(ENV_CA_FILE):
        trusted()  # Whether it can be read is told before anything is fetched.
    async with httpx.AsyncClient(
        transport=ProxyingTransport(trusted), follow_redirects=True, timeout=_TIMEOUT_S
    ) as client:
        yield Fetcher(client, cache, asyncio.Semaphore(_PARALLEL), environ=environ)


def _unfetched(url: str, error: Exception, status: int) -> errors.BuildError:
    reason = f"status {status}" if status else str(error) or type(error).__name__
    return errors.BuildError(
        f"can't fetch {masked(url)}{way_to(url, os.environ)}: {reason}",
        remedy="see that this machine reaches it, or name a mirror that it does reach with "
        "GPUYARD_APT_MIRRORS=FROM=TO; proxies come from HTTP_PROXY and HTTPS_PROXY, further "
        f"certificate authorities from {ENV_CA_FILE}",
    )


def _trusted(environ: Mapping[str, str]) -> ssl.SSLContext:
    import httpx

    context = httpx.create_ssl_context()
    context.load_default_certs()
    if file := environ.get(ENV_CA_FILE):
        try:
            context.load_verify_locations(file)
        except OSError as error:
            raise errors.UsageError(
                f"can't read the certificates of {ENV_CA_FILE}, {file}: {error.strerror or error}",
                remedy="name a PEM file",
            ) from error
    return context


def _other(url: str, what: str) -> errors.BuildError:
    return errors.BuildError(
        f"{masked(url)} is not the file that its archive's signed index names: it has {what}",
        remedy="the mirror is being renewed or damaged: build again later, or use another "
        "(GPUYARD_APT_MIRRORS)",
    )
