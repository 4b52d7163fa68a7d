"""A WebSocket server of the library on a unix socket, and a client of ours."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.http11 import Request, Response

from gpuyard.client.rest import RestApi

Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def serving(
    handler: Handler, *protocols: str, refusal: tuple[HTTPStatus, str] | None = None
) -> AsyncIterator[RestApi]:
    """A server of these protocols; `refusal` is said before any upgrade."""

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(*refusal) if refusal else None

    options: dict[str, Any] = {"subprotocols": protocols, "process_request": refuse, "max_size": None}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder) / "api"
        async with unix_serve(handler, str(socket), **options), RestApi(unix_socket=socket) as api:
            yield api
