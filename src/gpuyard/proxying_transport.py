"""httpx through the proxies that the environment names, as all of our clients read them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping

import httpx

from gpuyard.http_proxies import proxy_for

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)


class ProxyingTransport(httpx.AsyncBaseTransport):
    """A client's transport that goes through the proxy of each request, or directly.

    Args:
        verify: who is trusted; False: everybody; or what tells it, before the first request over HTTPS.
        limits: of connections, for each proxy.
        environ: the process's own unless given.
    """

    def __init__(
        self,
        verify: ssl.SSLContext | bool | Callable[[], ssl.SSLContext],
        limits: httpx.Limits = _LIMITS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._verify, self._limits, self._environ = verify, limits, environ
        self._transports: dict[tuple[bool, str | None], httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx; raises UsageError for a proxy that can't be one."""
        proxy = proxy_for(request.url, self._environ)
        secure = request.url.scheme == "https"
        if (secure, proxy) not in self._transports:
            # Authorities take as long to read as a small file to fetch.
            verify = secure and (self._verify() if callable(self._verify) else self._verify)
            self._transports[secure, proxy] = httpx.AsyncHTTPTransport(
                verify=verify, limits=self._limits, trust_env=False, proxy=proxy
            )
        return await self._transports[secure, proxy].handle_async_request(request)

    async def aclose(self) -> None:
        """Closes every connection."""
        for transport in self._transports.values():
            await transport.aclose()
