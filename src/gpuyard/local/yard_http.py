"""HTTP to this machine's yard: a yard that is stopped, or of another release, is called so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from gpuyard import __version__, errors
from gpuyard.client.http.exchange import ClientRequest, ClientResponse
from gpuyard.client.http.unix_http import UnixHttp
from gpuyard.local.paths import YardPaths

_REACHABLE_S = 10.0
_REACHABLE_POLL_S = 0.05


class YardHttp:
    """Implements `client.http.exchange.Http`; a yard that another release started raises VersionMismatch.

    Each answer says so; to ask for it first would be a request more for each command.
    """

    def __init__(self, paths: YardPaths) -> None:
        self._paths = paths
        self._http = UnixHttp(paths.api_socket)

    async def connect(self) -> None:
        """Connects, for the first request.

        Raises:
            YardStopped: nobody listens.
        """
        try:
            await self._http.connect()
        except errors.ConnectionFailed as error:
            await until_reachable(self._paths)
            try:
                await self._http.connect()
            except errors.ConnectionFailed:
                raise stopped(self._paths) from error

    @asynccontextmanager
    async def send(self, request: ClientRequest) -> AsyncIterator[ClientResponse]:
        """See `Http.send`."""
        async with self._http.send(request) as answer:
            check_release(answer.headers)
            yield answer

    async def aclose(self) -> None:
        """See `Http.aclose`."""
        await self._http.aclose()


async def until_reachable(paths: YardPaths) -> None:
    """Waits while a daemon lives whose files aren't there yet, for some seconds: a cleaner of /tmp has taken
    them, and the daemon makes them again; or it is starting."""
    from gpuyard.local.lifecycle import daemon_pid

    deadline = time.monotonic() + _REACHABLE_S
    while not (paths.api_socket.exists() and paths.running.exists()) and time.monotonic() < deadline:
        if not daemon_pid(paths):
            return
        await asyncio.sleep(_REACHABLE_POLL_S)


def check_release(headers: Mapping[str, str]) -> None:
    """Raises VersionMismatch unless an answer with these headers is a yard's of this release."""
    theirs = headers.get("gpuyard-version", "")
    if theirs != __version__:
        raise errors.VersionMismatch(
            f"the yard runs gpuyard {theirs or 'of an unknown version'}, this command is {__version__}",
            remedy="restart it with `gpuyard down --keep && gpuyard up`: runs go on meanwhile",
        )


def stopped(paths: YardPaths) -> errors.YardStopped:
    """The error for a yard that doesn't run; says so when processes of runs go on without it."""
    from gpuyard.local.lifecycle import daemon_pid
    from gpuyard.local.survivors import survivors_text

    if pid := daemon_pid(paths):
        return errors.YardStopped(
            f"the yard (pid {pid}) doesn't answer on {paths.api_socket} (data in {paths.data_dir})",
            remedy="try again, it may be starting; `gpuyard down --keep && gpuyard up` restarts it",
        )
    if going_on := survivors_text(paths):
        return errors.YardStopped(
            f"the yard is stopped (data in {paths.data_dir}), but {going_on}",
            remedy="`gpuyard up` starts it and finds them again",
        )
    return errors.YardStopped(
        f"the yard is stopped (data in {paths.data_dir})",
        remedy="start it with `gpuyard up`, or use --context",
    )
