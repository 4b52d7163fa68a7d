"""Where a cluster's API listens, from a kubeconfig, and how a connection to it is opened."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, quote, unquote, urlsplit

from gpuyard import errors
from gpuyard.client.connection.credentials import masked
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.http.failures import cannot_connect, connection_failed

_PORTS = {"https": 443, "http": 80}
#: A host of several addresses: the next one is tried beside it after so long (RFC 8305).
_NEXT_ADDRESS_S = 0.25
#: What lies between may drop a connection that waits, without a word.
_KEEP_S = 30.0


class ClusterEndpoint:
    """Implements `direct_http.Endpoint`, and `http_proxies.Address`."""

    def __init__(self, connection: Connection) -> None:
        """Raises UsageError for what is no address, and for a token that no header can have."""
        self._connection = connection
        try:
            url = urlsplit(connection.server)
            self.scheme, self.host, self.port = url.scheme.lower(), url.hostname or "", url.port
            host = _host(url)
        except ValueError:
            # The cause may quote a password.
            raise cannot_connect(connection, "it is no address of a host and a port") from None
        if self.scheme not in _PORTS or not self.host:
            raise cannot_connect(connection, "an API's address begins with https://")
        self.prefix = quote(unquote(url.path)).rstrip("/")
        self.keep_s = _KEEP_S
        self.headers: Mapping[str, str] = {
            "Host": host,
            "Accept-Encoding": "gzip",
            **_password(url),
            **connection.headers,
        }
        for value in self.headers.values():
            if not (value.isascii() and value.isprintable()):
                raise cannot_connect(connection, "the token isn't ASCII")

    async def open(self, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See `Endpoint.open`."""
        has_tls = self.scheme == "https"
        try:
            return await asyncio.open_connection(
                self.host,
                self.port or _PORTS[self.scheme],
                limit=limit,
                ssl=(self._connection.tls or True) if has_tls else None,
                server_hostname=(self._connection.tls_server_name or self.host) if has_tls else None,
                happy_eyeballs_delay=_NEXT_ADDRESS_S,
            )
        except OSError as error:
            # asyncio's sum of what each address of the host said: the first counts.
            if error.errno is None and (first := re.search(r"\[Errno (\d+)\]", str(error))):
                raise OSError(int(first[1]), os.strerror(int(first[1]))) from error
            raise

    def failed(self, error: Exception, *, connecting: bool = False) -> errors.ConnectionFailed:
        """See `Endpoint.failed`."""
        return connection_failed(
            masked(self._connection.server), error, self._connection, connecting=connecting
        )


def _password(url: SplitResult) -> dict[str, str]:
    """That of `https://ann:secret@host`."""
    if url.username is None:
        return {}
    both = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(both.encode()).decode()}"}


def _host(url: SplitResult) -> str:
    """With the port, where the address has one; in the letters that headers may have."""
    found = url.netloc.rpartition("@")[2]
    return found if found.isascii() else found.encode("idna").decode()
