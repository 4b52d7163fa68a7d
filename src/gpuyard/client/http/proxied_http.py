"""HTTP to the API of a cluster through a proxy, over httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore
import httpx

from gpuyard import errors
from gpuyard.client.connection.credentials import masked
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.http.exchange import CONNECT_TIMEOUT_S, ClientRequest, ClientResponse
from gpuyard.client.http.failures import cannot_connect, connection_failed


class ProxiedHttp:
    """Implements `client.http.exchange.Http`."""

    def __init__(self, connection: Connection, proxy: str) -> None:
        """Raises UsageError when nothing could be sent with such a connection."""
        self._connection, self._proxy = connection, proxy
        self._server = masked(connection.server)
        name = connection.tls_server_name
        self._extensions = {"sni_hostname": name} if name else {}
        try:
            self._client = httpx.AsyncClient(
                base_url=connection.server,
                headers=connection.headers,
                transport=httpx.AsyncHTTPTransport(
                    verify=connection.tls or True, trust_env=False, proxy=proxy
                ),
            )
        except (httpx.InvalidURL, ValueError, ImportError):  # ImportError: SOCKS isn't spoken
            # The cause may quote a password.
            raise cannot_connect(connection, f"its proxy {masked(proxy)!r} can't be used") from None

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
                wire = _ProxiedWire(self._server, response.extensions["network_stream"]) if is_other else None
                yield ClientResponse(
                    request.path, response.status_code, response.headers, response.aiter_bytes(), wire
                )
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._failed(error) from error

    def _failed(self, error: httpx.HTTPError) -> errors.ConnectionFailed:
        if isinstance(error, httpx.ProxyError):
            return errors.ConnectionFailed(
                f"the API at {self._server} doesn't answer: the proxy {masked(self._proxy)} doesn't let it "
                f"through: {error}",
                remedy="mend `proxy-url` in the kubeconfig, or HTTPS_PROXY; NO_PROXY names hosts that need "
                "none",
            )
        found: Exception = error
        if isinstance(error, httpx.TimeoutException):
            found = TimeoutError()
            found.__cause__ = error
        connecting = isinstance(error, httpx.ConnectTimeout | httpx.ConnectError)
        return connection_failed(self._server, found, self._connection, connecting=connecting)

    async def aclose(self) -> None:
        """See `Http.aclose`."""
        await self._client.aclose()


class _ProxiedWire:
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
