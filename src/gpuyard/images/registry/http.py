"""HTTP as registries need it: one pool of connections, redirects, retries, plain HTTP only where allowed."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import httpx

from gpuyard import errors
from gpuyard.http_proxies import ProxyingTransport
from gpuyard.images.registry.answers import (
    RegistryResponse,
    host_of,
    read_answer,
    retry_after_s,
    unreachable,
    url_of,
)
from gpuyard.images.registry.settings import RegistrySettings, is_loopback

_MAX_REDIRECTS = 5
_PIECE_BYTES = 1 << 18
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
#: A registry that asks for a longer pause is given up, so that a command doesn't seem to hang.
_LONGEST_RETRY_AFTER_S = 60.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Authority(Protocol):
    """Gives requests their Authorization header."""

    async def header(self, url: httpx.URL) -> str | None:
        """For a request to url; None to send none."""

    async def challenged(self, url: httpx.URL, headers: httpx.Headers, sent: str | None) -> bool:
        """Takes the headers of url's 401; True when another try has something new to show."""

    @property
    def account(self) -> str:
        """Who we are there; empty while requests are anonymous."""


class RegistryHttp:
    """Requests to registries, their token servers and the storage that they redirect to.

    Args:
        settings: what is trusted, tried and waited for.
        sleep: waits between attempts.
        jitter: a number in [0, 1); spreads attempts of many clients.
        now: aware time, to read a Retry-After date.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._sleep, self._jitter, self._now = sleep, jitter, now
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._reached: set[str] = set()
        self._encrypted: set[str] = set()  # on loopback, and found to want TLS

    async def aclose(self) -> None:
        """Closes every connection."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def request(
        self,
        method: str,
        url: httpx.URL | str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | memoryview | None = None,
        authority: Authority | None = None,
        once: bool = False,
        private: bool = False,
    ) -> RegistryResponse:
        """Sends a request and reads its answer, whatever its status.

        Args:
            method: repeated on cut connections and passing failures, unless once.
            url: absolute.
            headers: besides Authorization.
            content: the body.
            authority: adds credentials to requests to its registry.
            once: for a request whose repetition needs a question first.
            private: what is sent is for url's host only, so a redirect to another isn't followed.

        Raises:
            RegistryUnavailable: no answer, after every attempt.
            RegistryError: it can't be spoken to as things are (TLS, plain HTTP).
        """
        address = url if isinstance(url, httpx.URL) else url_of(url)
        started = self._now()
        for attempt in range(1, self.settings.attempts + 1):
            last = once or attempt == self.settings.attempts
            try:
                sending = self._send(method, address, headers or {}, content, authority, private=private)
                async with sending as response:
                    answer = await read_answer(response, authority.account if authority else "")
            except errors.RegistryUnavailable:
                # A host that was never there is more likely misspelt than busy, and one that was silent
                # twice has nothing to say.
                silent_s = (self._now() - started).total_seconds()
                if last or host_of(address) not in self._reached or silent_s >= 2 * self.settings.timeout_s:
                    raise
                await self.pause(attempt)
                continue
            if last or not answer.passing or not await self.pause(attempt, answer.headers):
                return answer
        raise AssertionError("attempts is at least 1")

    @asynccontextmanager
    async def stream(
        self, url: httpx.URL | str, headers: Mapping[str, str], authority: Authority | None
    ) -> AsyncIterator[httpx.Response]:
        """One GET whose body the caller reads; nothing is repeated. Cuts raise RegistryUnavailable."""
        async with self._send("GET", httpx.URL(url), headers, None, authority) as response:
            yield response

    async def pause(self, attempt: int, headers: Mapping[str, str] | None = None) -> bool:
        """Waits before attempt + 1: as Retry-After says, else longer each time; False to give up at once."""
        pause_s = min(_FIRST_PAUSE_S * 2 ** (attempt - 1), _LONGEST_PAUSE_S) * (0.5 + self._jitter() / 2)
        wish_s = retry_after_s((headers or {}).get("retry-after", ""), self._now())
        if wish_s > _LONGEST_RETRY_AFTER_S:
            return False
        await self._sleep(max(pause_s, wish_s))
        return True

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        content: bytes | memoryview | None,
        authority: Authority | None,
        *,
        private: bool = False,
    ) -> AsyncIterator[httpx.Response]:
        """One attempt: follows redirects, and answers one 401 with fresh credentials."""
        challenged, hops = False, 0
        while True:
            if host_of(url) in self._encrypted:
                url = url.copy_with(scheme="https")
            self._refuse_plain(url)
            authorization = await authority.header(url) if authority else None
            extra = {"Authorization": authorization} if authorization else {}
            async with self._open(method, url, {**headers, **extra}, content) as response:
                if response.status_code == 401 and authority and not challenged:
                    challenged = True
                    await read_answer(response)  # so that the connection can be used again
                    if await authority.challenged(url, response.headers, authorization):
                        continue
                if response.status_code == 400 and await self._wants_tls(url, response):
                    self._encrypted.add(host_of(url))
                    continue
                location = response.headers.get("location")
                if response.status_code in _REDIRECTS and location and hops < _MAX_REDIRECTS:
                    hops += 1
                    url = _redirected(url, location, private=private)
                    continue
                yield response
                return

    async def _wants_tls(self, url: httpx.URL, response: httpx.Response) -> bool:
        """Whether a server on loopback says that it wants TLS, as Go's and nginx do in plain words."""
        if url.scheme == "https" or not is_loopback(url.host):
            return False
        if response.request.method == "HEAD":  # whose answer has no words
            async with self._open("GET", url, {}, None) as worded:
                return b"HTTPS" in (await read_answer(worded)).content[:500]
        return b"HTTPS" in (await read_answer(response)).content[:500]

    @asynccontextmanager
    async def _open(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | memoryview | None
    ) -> AsyncIterator[httpx.Response]:
        client = self._client(url.scheme)
        if content is None or len(content) <= _PIECE_BYTES:
            request = client.build_request(
                method, url, headers=headers, content=None if content is None else bytes(content)
            )
        else:
            length = {"Content-Length": str(len(content))}
            request = client.build_request(
                method, url, headers={**headers, **length}, content=_pieces(content)
            )
        try:
            response = await client.send(request, stream=True)
            self._reached.add(host_of(url))
            try:
                yield response
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            if not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                self._reached.add(host_of(url))
            raise unreachable(url, error) from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise errors.RegistryError(
                f"{host_of(url)} gave an answer that can't be read: {error}"
            ) from error

    def _client(self, scheme: str) -> httpx.AsyncClient:
        """One client per scheme: the plain one costs no reading of certificates."""
        if scheme not in self._clients:
            # A context without authorities: were TLS ever spoken here, nothing would be trusted.
            tls = self._trusted() if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            limits = httpx.Limits(max_connections=4 * self.settings.parallel)
            self._clients[scheme] = httpx.AsyncClient(
                transport=ProxyingTransport(tls, limits),
                timeout=httpx.Timeout(self.settings.timeout_s, connect=10.0),
                headers={"User-Agent": "gpuyard", "Accept-Encoding": "identity"},
            )
        return self._clients[scheme]

    def _trusted(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context()
        context.load_default_certs()
        if self.settings.ca_file is not None:
            try:
                context.load_verify_locations(cafile=self.settings.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise errors.UsageError(
                    f"the certificates in {self.settings.ca_file} can't be read: {error.strerror or error}",
                    remedy="name a PEM file of certificate authorities",
                ) from error
        return context

    def _refuse_plain(self, url: httpx.URL) -> None:
        if url.scheme == "https" or (url.scheme == "http" and self.settings.allows_plain(url.host, url.port)):
            return
        raise errors.RegistryError(
            f"{host_of(url)} would be spoken to without encryption ({url.scheme})",
            remedy=f"use HTTPS there, or allow it with --plain-http {host_of(url)}",
        )


async def _pieces(content: bytes | memoryview) -> AsyncIterator[bytes]:
    """A large body a little at a time: sent as a whole, each layer below would copy all of it."""
    for start in range(0, len(content), _PIECE_BYTES):
        yield bytes(content[start : start + _PIECE_BYTES])


def _redirected(url: httpx.URL, location: str, *, private: bool) -> httpx.URL:
    there = url_of(location, url)
    if private and not _samehost_of(url, there):
        raise errors.RegistryError(
            f"{host_of(url)} sends a request with credentials on to {host_of(there)}, which they aren't for",
            remedy="ask whoever runs the registry; nothing was sent there",
        )
    return there


def _samehost_of(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether both are served by the same; plain HTTP may lead on to HTTPS."""
    upgraded = one.scheme == "http" and other.scheme == "https"
    return one.host == other.host and (one.port == other.port or (upgraded and other.port is None))
