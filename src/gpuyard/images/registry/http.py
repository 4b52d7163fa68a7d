"""HTTP as registries need it: one pool of connections, redirects, retries, plain HTTP only where allowed."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

from gpuyard import errors
from gpuyard.http_proxies import proxy_for
from gpuyard.images.registry.answers import (
    RegistryResponse,
    host_of,
    read_answer,
    retry_after_s,
    unreachable,
    url_of,
)
from gpuyard.images.registry.connections import Body, Connections
from gpuyard.images.registry.responses import Headers, HttpResponse
from gpuyard.images.registry.settings import RegistrySettings, is_loopback
from gpuyard.images.registry.urls import Url

_MAX_REDIRECTS = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
#: A registry that asks for a longer pause is given up, so that a command doesn't seem to hang.
_LONGEST_RETRY_AFTER_S = 60.0
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "gpuyard"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Authority(Protocol):
    """Gives requests their Authorization header."""

    async def header(self, url: Url) -> str | None:
        """For a request to url; None to send none."""

    async def challenged(self, url: Url, headers: Headers, sent: str | None) -> bool:
        """Takes the headers of url's 401; True when another try has something new to show."""

    @property
    def account(self) -> str:
        """Who we are there; empty while requests are anonymous."""


class Carrier(Protocol):
    """Sends requests, directly or through a proxy."""

    def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        content: Body,
        reached: Callable[[], None],
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """One request and the head of its answer; its body is read within the block, or never.

        Args:
            reached: called when there is a connection.

        Raises:
            OSError, EOFError: there is none, or it broke.
            ValueError: what answers doesn't speak HTTP.
        """

    async def aclose(self) -> None:
        """Closes every connection."""


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
        self._direct = Connections(settings.timeout_s, 4 * settings.parallel, self._trusted)
        self._proxied: Carrier | None = None
        self._reached: set[str] = set()
        self._encrypted: set[str] = set()  # on loopback, and found to want TLS

    def expect(self, url: Url) -> None:
        """Prepares for a request that will come."""
        if url.scheme == "https" and proxy_for(url, os.environ) is None:
            self._direct.expect_tls()

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._direct.aclose()
        if self._proxied:
            await self._proxied.aclose()
            self._proxied = None

    async def request(
        self,
        method: str,
        url: Url | str,
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
        address = _address(url)
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
        self, url: Url | str, headers: Mapping[str, str], authority: Authority | None
    ) -> AsyncIterator[HttpResponse]:
        """One GET whose body the caller reads; nothing is repeated. Cuts raise RegistryUnavailable."""
        async with self._send("GET", _address(url), headers, None, authority) as response:
            yield response

    async def pause(self, attempt: int, headers: Headers | Mapping[str, str] | None = None) -> bool:
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
        url: Url,
        headers: Mapping[str, str],
        content: bytes | memoryview | None,
        authority: Authority | None,
        *,
        private: bool = False,
    ) -> AsyncIterator[HttpResponse]:
        """One attempt: follows redirects, and answers one 401 with fresh credentials."""
        challenged, hops = False, 0
        while True:
            if host_of(url) in self._encrypted:
                url = url.with_scheme("https")
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

    async def _wants_tls(self, url: Url, response: HttpResponse) -> bool:
        """Whether a server on loopback says that it wants TLS, as Go's and nginx do in plain words."""
        if url.scheme == "https" or not is_loopback(url.host):
            return False
        if response.method == "HEAD":  # whose answer has no words
            async with self._open("GET", url, {}, None) as worded:
                return b"HTTPS" in (await read_answer(worded)).content[:500]
        return b"HTTPS" in (await read_answer(response)).content[:500]

    @asynccontextmanager
    async def _open(
        self, method: str, url: Url, headers: Mapping[str, str], content: Body
    ) -> AsyncIterator[HttpResponse]:
        carrier = self._carrier(url)
        reached = lambda: self._reached.add(host_of(url))  # noqa: E731
        try:
            async with carrier.send(method, url, {**_HEADERS, **headers}, content, reached) as response:
                yield response
        except (OSError, EOFError, asyncio.IncompleteReadError) as error:
            raise unreachable(url, error) from error
        except ValueError as error:
            raise errors.RegistryError(
                f"{host_of(url)} gave an answer that can't be read: {error}"
            ) from error

    def _carrier(self, url: Url) -> Carrier:
        if proxy_for(url, os.environ) is None:
            return self._direct
        if self._proxied is None:
            from gpuyard.images.registry.proxied import ProxiedConnections

            most = 4 * self.settings.parallel
            self._proxied = ProxiedConnections(self.settings.timeout_s, most, self._trusted)
        return self._proxied

    def _trusted(self) -> ssl.SSLContext:
        import certifi  # Only for HTTPS.

        named, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
        context = ssl.create_default_context(
            cafile=named or (None if folder else certifi.where()), capath=None if named else folder
        )
        context.load_default_certs()
        context.set_alpn_protocols(["http/1.1"])
        if self.settings.ca_file is not None:
            try:
                context.load_verify_locations(cafile=self.settings.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise errors.UsageError(
                    f"the certificates in {self.settings.ca_file} can't be read: {error.strerror or error}",
                    remedy="name a PEM file of certificate authorities",
                ) from error
        return context

    def _refuse_plain(self, url: Url) -> None:
        if url.scheme == "https" or (url.scheme == "http" and self.settings.allows_plain(url.host, url.port)):
            return
        raise errors.RegistryError(
            f"{host_of(url)} would be spoken to without encryption ({url.scheme})",
            remedy=f"use HTTPS there, or allow it with --plain-http {host_of(url)}",
        )


def _address(url: Url | str) -> Url:
    return url if isinstance(url, Url) else url_of(url)


def _redirected(url: Url, location: str, *, private: bool) -> Url:
    there = url_of(location, url)
    if private and not _samehost_of(url, there):
        raise errors.RegistryError(
            f"{host_of(url)} sends a request with credentials on to {host_of(there)}, which they aren't for",
            remedy="ask whoever runs the registry; nothing was sent there",
        )
    return there


def _samehost_of(one: Url, other: Url) -> bool:
    """Whether both are served by the same; plain HTTP may lead on to HTTPS."""
    upgraded = one.scheme == "http" and other.scheme == "https"
    return one.host == other.host and (one.port == other.port or (upgraded and other.port is None))
