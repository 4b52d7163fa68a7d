"""HTTP through a proxy: httpx carries it, which few commands need and so few import."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx

from gpuyard.images.registry.connections import PIECE_BYTES, Body
from gpuyard.images.registry.responses import Headers, HttpResponse
from gpuyard.images.registry.urls import Url
from gpuyard.proxying_transport import ProxyingTransport


class ProxiedConnections:
    """Implements `http.Carrier`; made as `Connections` is."""

    def __init__(self, timeout_s: float, most: int, tls: Callable[[], ssl.SSLContext]) -> None:
        self._client = httpx.AsyncClient(
            transport=ProxyingTransport(tls(), httpx.Limits(max_connections=most)),
            timeout=httpx.Timeout(timeout_s, connect=10.0),
        )

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        content: Body,
        reached: Callable[[], None],
    ) -> AsyncIterator[HttpResponse]:
        """See `http.Carrier`."""
        length = {} if content is None else {"Content-Length": str(len(content))}
        try:
            request = self._client.build_request(
                method,
                str(url),
                headers={**headers, **length},
                content=None if content is None else _pieces(content),
            )
            response = await self._client.send(request, stream=True)
            reached()
            try:
                found = Headers(response.headers.multi_items())
                yield HttpResponse(method, url, response.status_code, found, response.aiter_raw())
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            if not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                reached()
            raise OSError(str(error) or type(error).__name__) from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise ValueError(str(error)) from error

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()


async def _pieces(content: bytes | memoryview) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield bytes(content[start : start + PIECE_BYTES])
