"""HTTP to this machine's yard: a yard that is stopped, or of another release, is called so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from gpuyard import __version__, errors
from gpuyard.client.http import Answer, Request
from gpuyard.client.unix_http import UnixHttp
from gpuyard.local.paths import YardPaths


class YardHttp:
    """Implements `client.http.Http`; raises VersionMismatch where the yard was started by another release.

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
            raise stopped(self._paths) from error

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        """See `Http.send`."""
        async with self._http.send(request) as answer:
            check_release(answer.headers)
            yield answer

    async def aclose(self) -> None:
        """See `Http.aclose`."""
        await self._http.aclose()


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
    from gpuyard.local.survivors import survivors_text

    if going_on := survivors_text(paths):
        return errors.YardStopped(
            f"the yard is stopped, but {going_on} (data in {paths.data_dir})",
            remedy="`gpuyard up` starts it and finds them again",
        )
    return errors.YardStopped(
        f"the yard is stopped (data in {paths.data_dir})",
        remedy="start it with `gpuyard up`, or use --context",
    )
