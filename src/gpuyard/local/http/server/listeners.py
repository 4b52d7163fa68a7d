"""Listens: HTTP on the yard's unix socket for its user, HTTPS on 127.0.0.1 for whoever has the token."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import uvicorn

from gpuyard import errors
from gpuyard.local.http.app import ApiApp, AsgiApp
from gpuyard.local.http.server.access import Guard
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.connections import Acceptor, BoundedProtocol, max_connections

log = logging.getLogger(__name__)

_BACKLOG = 1024
#: What requests that are being answered get when the server stops; watches are ended at once.
_SHUTDOWN_S = 5
_KEEP_ALIVE_S = 60
REACHABLE_CHECK_S = 1.0


@dataclass
class Listeners:
    """Both sockets, bound and listening: clients can connect from now on and wait for `serve`."""

    unix: socket.socket
    tcp: socket.socket
    unix_path: Path

    def __post_init__(self) -> None:
        self._bound = _identity(self.unix_path)

    @property
    def port(self) -> int:
        """The TCP port, also when a free one was asked for."""
        port: int = self.tcp.getsockname()[1]
        return port

    @classmethod
    def open(cls, unix_path: Path, port: int) -> Listeners:
        """Binds both. The caller holds the yard's lock: a socket file that is there is stale.

        Args:
            unix_path: in a folder that only its owner can enter.
            port: 0 takes a free one.

        Raises:
            YardError: the port is taken, or the socket can't be made.
        """
        tcp = _listen_tcp(port)
        try:
            return cls(_listen_unix(unix_path), tcp, unix_path)
        except BaseException:
            tcp.close()
            raise

    def is_reachable(self) -> bool:
        """Whether the socket's file is still the one that was bound."""
        try:
            return _identity(self.unix_path) == self._bound
        except OSError:
            return False

    def listen_again(self) -> None:
        """Binds the unix socket anew, where its file is gone.

        Raises:
            YardError: it can't be made.
        """
        listener = _listen_unix(self.unix_path)
        self.unix.close()
        self.unix, self._bound = listener, _identity(self.unix_path)

    def close(self) -> None:
        """Closes both and removes the socket file."""
        self.tcp.close()
        self.unix.close()
        self.unix_path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


async def serve(
    app: ApiApp,
    listeners: Listeners,
    *,
    token: str,
    pki: Pki,
    clock: Callable[[], datetime],
    renewal_check_s: float = 12 * 3600.0,
) -> None:
    """Serves until cancelled, then ends watches, finishes what is being answered and closes the listeners.

    Renews the server's certificate in time, without a restart.

    Args:
        app: what is served.
        listeners: taken over, and closed at the end.
        token: what clients over TCP must bring.
        pki: with its certificates made.
        clock: tells the age of the certificates.
        renewal_check_s: time between two looks at it.
    """
    context = pki.context()
    local, remote = _Server(app), _Server(Guard(app, token, listeners.port))
    limit = max_connections()
    acceptors = [
        Acceptor(listeners.unix, local, None, trusted=True, limit=limit),
        Acceptor(listeners.tcp, remote, context, trusted=False, limit=limit),
    ]
    tasks = [
        # They get their connections from the acceptors.
        asyncio.create_task(local.serve([]), name="api-unix"),
        asyncio.create_task(remote.serve([]), name="api-tls"),
        asyncio.create_task(_keep_reachable(listeners, acceptors, local, limit), name="api-socket"),
        asyncio.create_task(_renew(pki, context, clock, renewal_check_s), name="api-certificates"),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for acceptor in acceptors:
            acceptor.close()
        app.close()
        local.stop()
        remote.stop()
        for task in tasks[2:]:
            task.cancel()
        try:
            waiting = [acceptor.wait_closed() for acceptor in acceptors]
            await asyncio.gather(*waiting, *tasks, return_exceptions=True)
        finally:  # also when it is cancelled again
            listeners.close()


class _Server(uvicorn.Server):
    """A uvicorn that leaves signals alone, doesn't poll, and stops when told."""

    def __init__(self, app: AsgiApp) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            loop="none",
            log_config=None,
            # Its warnings are about what clients send, and anybody may send it.
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        config.load()
        super().__init__(config)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Begins the shutdown."""
        self.should_exit = True
        self._stopped.set()

    async def main_loop(self) -> None:
        """Waits for `stop`."""
        await self.on_tick(0)
        await self._stopped.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the daemon."""
        yield


async def _keep_reachable(
    listeners: Listeners, acceptors: list[Acceptor], server: _Server, limit: int
) -> None:
    """Listens anew when a cleaner of /tmp has taken the socket's file. Open connections stay."""
    while True:
        await asyncio.sleep(REACHABLE_CHECK_S)
        if listeners.is_reachable() or not listeners.unix_path.parent.is_dir():
            continue
        acceptors[0].close()
        try:
            listeners.listen_again()
        except errors.YardError as error:
            log.warning("%s", error)
        acceptors[0] = Acceptor(listeners.unix, server, None, trusted=True, limit=limit)


async def _renew(pki: Pki, context: ssl.SSLContext, clock: Callable[[], datetime], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            if pki.renew_server(clock()):
                pki.load(context)
                log.info("the API's certificate was renewed")
        except errors.GpuyardError as error:
            log.warning("the API's certificate could not be renewed: %s", error)


def _listen_tcp(port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY: without, every answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        what = (
            "is in use by another program" if error.errno == errno.EADDRINUSE else f"can't be used: {error}"
        )
        raise errors.YardError(
            f"port {port} on 127.0.0.1 {what}",
            remedy="choose another: `gpuyard up --port PORT` (0 takes a free one)",
        ) from error
    return listener


def _listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise errors.YardError(
            f"can't listen on {path}: {error.strerror or error}",
            remedy="remove what is there, or set GPUYARD_HOME to another folder",
        ) from error
    return listener
