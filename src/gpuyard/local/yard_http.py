"""HTTP to this machine's yard: a yard that is stopped, silent, or of another release, is called so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gpuyard import __version__, errors
from gpuyard.client.http.direct_http import DirectHttp, SocketEndpoint
from gpuyard.client.http.exchange import PATIENCE_S, ClientRequest, ClientResponse
from gpuyard.local.paths import YardPaths

if TYPE_CHECKING:
    from gpuyard.local.silence import Silence

_REACHABLE_S = 10.0
_REACHABLE_POLL_S = 0.05
#: So many looks within the patience: one alone may come right after this command itself stood still.
_LOOKS = 3


class YardHttp:
    """Implements `client.http.exchange.Http`; a yard that another release started raises VersionMismatch.

    Each answer says so; to ask for it first would be a request more for each command.

    Args:
        paths: of the yard.
        on_silence: told once, in a sentence, that the yard doesn't answer yet.
        any_release: of the yard will do.
    """

    def __init__(
        self,
        paths: YardPaths,
        on_silence: Callable[[str], None] = lambda text: None,
        *,
        any_release: bool = False,
    ) -> None:
        self._paths = paths
        self._on_silence = on_silence
        self._any_release = any_release
        self._http = DirectHttp(SocketEndpoint(paths.api_socket))
        #: Requests without an answer, and how often each was seen so.
        self._unanswered: dict[int, int] = {}
        self._seen_still = 0
        self._next_look: asyncio.TimerHandle | None = None

    async def connect(self) -> None:
        """Connects, for the first request.

        Raises:
            YardStopped: nobody listens.
        """
        self._look_later()
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
        self._unanswered[id(request)] = 0
        try:
            async with self._http.send(request) as answer:
                del self._unanswered[id(request)]
                if not self._any_release:
                    check_release(answer.headers)
                yield answer
        except errors.Stalled as error:
            if silence := silence_of_yard(self._paths):
                raise errors.Stalled(silence.text, remedy=silence.remedy) from error
            raise
        finally:
            self._unanswered.pop(id(request), None)

    async def aclose(self) -> None:
        """See `Http.aclose`."""
        if self._next_look is not None:
            self._next_look.cancel()
        await self._http.aclose()

    def _look_later(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(PATIENCE_S / _LOOKS, self._look)

    def _look(self) -> None:
        """Looks whether the yard is silent; while it stands still, streams are, too."""
        # Most commands are over before the first look.
        from gpuyard.local.settings import load_running
        from gpuyard.local.silence import silence_of

        running = load_running(self._paths.running)
        self._seen_still = (
            self._seen_still + 1 if running and silence_of(running.daemon_pid).is_stopped else 0
        )
        for request in self._unanswered:
            self._unanswered[request] += 1
        silent = max((self._seen_still, *self._unanswered.values())) >= _LOOKS
        if silent and (silence := silence_of_yard(self._paths)):
            self._on_silence(f"{silence.text} yet: {silence.remedy}")
        else:
            self._look_later()


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


def silence_of_yard(paths: YardPaths) -> Silence | None:
    """What is to be said of a yard that doesn't answer; None when it doesn't run."""
    from gpuyard.local.lifecycle import daemon_pid
    from gpuyard.local.silence import silence_of

    pid = daemon_pid(paths)
    return silence_of(pid) if pid else None


def stopped(paths: YardPaths) -> errors.YardStopped:
    """The error for a yard that doesn't run; says so when processes of runs go on without it."""
    from gpuyard.local.survivors import survivors_text

    if silence := silence_of_yard(paths):
        return errors.YardStopped(
            f"{silence.text} on {paths.api_socket} (data in {paths.data_dir})", remedy=silence.remedy
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
