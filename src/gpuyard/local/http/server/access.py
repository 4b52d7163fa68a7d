"""Who may call the API over TCP: programs of this machine that hold the token, never web pages."""

from __future__ import annotations

import hmac

from gpuyard import errors
from gpuyard.local.http.answers import failure
from gpuyard.local.http.app import AsgiApp, Send, send_response
from gpuyard.local.http.documents import HEALTH_PATHS
from gpuyard.local.http.request import Receive, Scope


class Guard:
    """Stands before an application and lets through what may pass; the same for every method.

    A request whose Host isn't this server's comes from a page that rebound a DNS name to 127.0.0.1; one with
    an Origin comes from a browser. Neither is answered, with or without the token.
    """

    def __init__(self, app: AsgiApp, token: str, port: int) -> None:
        self._app = app
        self._expected = token.encode()
        self._hosts = frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers or passes on one request."""
        error = self._refusal(scope)
        if error is None:
            if scope["path"] not in HEALTH_PATHS:
                scope["identified"]()
            await self._app(scope, receive, send)
        else:
            await send_response(failure(error), send)

    def _refusal(self, scope: Scope) -> errors.ApiError | None:
        hosts: list[bytes] = []
        token = b""
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value.lower())
            elif name == b"authorization":
                token = value
            elif name == b"origin":
                return errors.Forbidden("requests of web pages are refused (the request has an Origin)")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return errors.Forbidden(
                "the Host of the request isn't this server's",
                remedy="use https://127.0.0.1 and the yard's port",
            )
        if scope["path"] in HEALTH_PATHS:
            return None
        scheme, _, credentials = token.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(credentials.strip(), self._expected):
            return errors.Unauthorized("Unauthorized")
        return None
