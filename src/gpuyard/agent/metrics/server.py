"""Serves one text over HTTP: GET /metrics, one request a connection. It reads no body and knows no secret.

It takes connections itself: when a process has no descriptor left, asyncio's server tries a hundred times at
once, logs each with a traceback, and tries each a hundred times again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.metrics.text import CONTENT_TYPE

#: Whoever connects has to send its request, and to take the answer, within so long.
_LIMIT_S = 10.0
_MOST_HEAD_BYTES = 16 << 10
#: Prometheus needs one. One above closes the oldest that has sent no request yet; where all have, itself.
_MOST_CONNECTIONS = 32
#: Without a descriptor or memory, until it is tried again.
_SHORTAGE_PAUSE_S = 1.0
_LOG = logging.getLogger(__name__)


class MetricsServer:
    """Answers until it is stopped.

    Args:
        scrape: what GET /metrics answers.
        limit_s: for a connection, from its begin to the end of its answer.
    """

    def __init__(self, scrape: Callable[[], Awaitable[str]], limit_s: float = _LIMIT_S) -> None:
        self._scrape = scrape
        self._limit_s = limit_s
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[None]] = set()
        #: Those of them that have sent no request yet, the oldest first.
        self._silent: dict[asyncio.Task[None], None] = {}

    async def listen(self, where: Path | tuple[str | None, int]) -> None:
        """Starts to answer on a unix socket, in the place of one that was left behind, or on an address.

        Without a host it is all addresses, of IPv4 and IPv6.

        Raises:
            DeviceError: it can't.
        """
        try:
            self._listener = _listen(where)
        except OSError as error:
            raise errors.DeviceError(
                f"can't serve metrics on {where}: {error.strerror}",
                remedy="see what else uses it, such as another exporter on this node",
            ) from error
        self._accepting = asyncio.create_task(self._accept(self._listener), name="accept")

    async def close(self) -> None:
        """Answers no more, nor those that wait."""
        tasks = self._answering | ({self._accepting} if self._accepting else set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        said = ""
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except ConnectionError:
                continue  # It is gone again.
            except OSError as error:
                if str(error.strerror) != said:
                    said = str(error.strerror)
                    _LOG.warning("takes no connections for now: %s", said)
                await asyncio.sleep(_SHORTAGE_PAUSE_S)
                continue
            said = ""
            self._take(connection)
            # Who connects without end would have the loop for himself.
            await asyncio.sleep(0)

    def _take(self, connection: socket.socket) -> None:
        if len(self._answering) >= _MOST_CONNECTIONS:
            if not self._silent:
                connection.close()
                return
            oldest = next(iter(self._silent))
            self._forget(oldest)
            oldest.cancel()
        task = asyncio.create_task(self._answer(connection), name="answer")
        self._answering.add(task)
        self._silent[task] = None
        task.add_done_callback(self._forget)
        # Also of one that was cancelled before it began.
        task.add_done_callback(lambda _: connection.close())

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        self._silent.pop(task, None)

    async def _answer(self, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=_MOST_HEAD_BYTES)
        except OSError:
            return
        is_sent = False
        try:
            async with asyncio.timeout(self._limit_s):
                head = await reader.readuntil(b"\r\n\r\n")
                if task := asyncio.current_task():
                    self._silent.pop(task, None)
                writer.write(await self._response(head))
                writer.close()
                await writer.wait_closed()
                is_sent = True
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # Nobody who is worth an answer.
        finally:
            # Not by close, which waits without end for whoever doesn't read. A transport that sent the last
            # part of what waited has no loop any more, and fails here.
            if not is_sent:
                writer.transport.abort()

    async def _response(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _http("400 Bad Request", "this is no HTTP/1 request\n")
        method, path = words[0], words[1].partition(b"?")[0]
        if path not in (b"/metrics", b"/healthz"):
            return _http("404 Not Found", "there is only /metrics here\n")
        if method not in (b"GET", b"HEAD"):
            return _http("405 Method Not Allowed", "there is only GET here\n", "Allow: GET, HEAD\r\n")
        body = "ok\n" if path == b"/healthz" else await self._scrape()
        return _http("200 OK", body, without_body=method == b"HEAD")


def _listen(where: Path | tuple[str | None, int]) -> socket.socket:
    if isinstance(where, Path):
        where.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(where))
            where.chmod(0o600)
            listener.listen(_MOST_CONNECTIONS)
        except OSError:
            listener.close()
            raise
    else:
        host, port = where
        if host is None and socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            family = socket.AF_INET6 if host and ":" in host else socket.AF_INET
            listener = socket.create_server((host or "", port), family=family)
    listener.setblocking(False)
    return listener


def _http(status: str, body: str, more: str = "", *, without_body: bool = False) -> bytes:
    content = body.encode()
    kind = CONTENT_TYPE if status.startswith("200") else "text/plain; charset=utf-8"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
    sent = f"{head}X-Content-Type-Options: nosniff\r\n{more}Connection: close\r\n\r\n".encode()
    return sent if without_body else sent + content
