"""HTTP to the API of a cluster, over httpx: TLS, proxies, pooled connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore
import httpx

from gpuyard import errors
from gpuyard.client.connection.credentials import masked
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.http.exchange import CONNECT_TIMEOUT_S, ClientRequest, ClientResponse
from gpuyard.client.http.failures import connection_failed
from gpuyard.proxying_transport import ProxyingTransport


class ClusterHttp:
    """Implements `client.http.exchange.Http`."""

    def __init__(self, connection: Connection) -> None:
        """Raises UsageError when nothing could be sent with such a connection."""
        self._connection = connection
        self._server = masked(connection.server)
        name = connection.tls_server_name
        self._extensions = {"sni_hostname": name} if name else {}
        tls = connection.tls if connection.tls is not None else httpx.create_ssl_context()
        try:
            self._client = httpx.AsyncClient(
                base_url=connection.server,
                headers=connection.headers,
                transport=httpx.AsyncHTTPTransport(verify=tls, proxy=connection.proxy)
                if connection.proxy
                else ProxyingTransport(tls),
            )
        except (httpx.InvalidURL, ValueError, ImportError) as error:  # ImportError: SOCKS isn't spoken
            # A header's text may be a token: not in the message.
            reason = "the token isn't ASCII" if isinstance(error, UnicodeError) else str(error)
            raise errors.UsageError(
                f"can't connect to {self._server!r}: {reason}",
                remedy="mend `server`, `proxy-url` or the token in the kubeconfig",
            ) from error

    @asynccontextmanager
    async def send(self, request: ClientRequest) -> AsyncIterator[ClientResponse]:
        """See `Http.send`."""
        headers = {"Accept": request.accept, **request.upgrade}
        if request.content is not None:
            headers["Content-Type"] = request.content_type
        try:
            built = self._client.build_request(
                request.method,
                request.path,
                content=request.content,
                headers=headers,
                params=request.params,
                timeout=httpx.Timeout(request.silence_timeout_s, connect=CONNECT_TIMEOUT_S),
                extensions=self._extensions,
            )
        except httpx.InvalidURL as error:
            raise errors.UsageError(
                f"{request.path!r} can't be asked for: {error}",
                remedy="mend the name in it; names have no odd characters",
            ) from error
        try:
            response = await self._client.send(built, stream=True)
            try:
                is_other = response.status_code == 101
                wire = _ClusterWire(self._server, response.extensions["network_stream"]) if is_other else None
                yield ClientResponse(
                    request.path, response.status_code, response.headers, response.aiter_bytes(), wire
                )
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise connection_failed(self._server, error, self._connection) from error

    async def aclose(self) -> None:
        """See `Http.aclose`."""
        await self._client.aclose()


class _ClusterWire:
    """Implements `client.http.exchange.Wire` over what httpx leaves of a connection that was upgraded."""

    def __init__(self, server: str, stream: httpcore.AsyncNetworkStream) -> None:
        self._server, self._stream = server, stream

    async def read(self, most_bytes: int) -> bytes:
        """See `Wire.read`."""
        try:
            return await self._stream.read(most_bytes)
        except httpcore.NetworkError as error:
            raise self._cut(error) from error

    async def write(self, data: bytes) -> None:
        """See `Wire.write`."""
        try:
            await self._stream.write(data)
        except httpcore.NetworkError as error:
            raise self._cut(error) from error

    def _cut(self, error: Exception) -> errors.ConnectionFailed:
        return errors.ConnectionFailed(
            f"the API at {self._server} doesn't answer: it cut the connection ({error or 'no reason'})",
            remedy="try again",
        )
