"""Ports of this machine that lead to ports of a run's pod.

Each connection has a WebSocket of its own, to the pod that the run has at that moment: so one that stands
still holds up no other, and after a cut or a new attempt the next connection works again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.client.streams.port_forward import PodPort, open_port
from gpuyard.runs.following.named_watch import NamedWatch
from gpuyard.runs.following.run_watch import RunWatch
from gpuyard.runs.interactive.live_pod import NO_POD, check_right, live_pod
from gpuyard.runs.notices import Notice, Notify
from gpuyard.runs.run import Run, has_ended, state_text
from gpuyard.runs.target import Target

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_READ_BYTES = 1 << 16
#: For so long a connection waits for a pod, or for the API, that is away.
_PATIENCE_S = 30.0
_PAUSE_S = 0.5


@dataclass(frozen=True)
class PortPair:
    """A port of this machine, 0 for any that is free, None for none named, and the pod's that it leads to."""

    local: int | None
    remote: int

    @classmethod
    def parse(cls, text: str) -> PortPair:
        """`8888`, `9000:8888`, `:8888`. Raises UsageError for anything else."""
        found = re.fullmatch(r"(?:(?P<local>\d*):)?(?P<remote>\d+)", text, re.ASCII)
        if found:
            remote = int(found["remote"])
            local = None if found["local"] is None else int(found["local"] or 0)
            if 0 < remote < 65536 and (local or 0) < 65536:
                return cls(local, remote)
        raise errors.UsageError(
            f"{text!r} is no port",
            remedy="write 8888, or 9000:8888 for another one here, or :8888 for a free one",
        )


async def forward(
    target: Target, name: str, rank: int | None, pairs: Sequence[PortPair], notify: Notify
) -> Run:
    """Forwards until the run has ended; gives the run then.

    Args:
        target: where it is.
        name: of a run that is there.
        rank: whose ports; None for the first.
        pairs: what leads where.
        notify: told the addresses, and what goes wrong on the way.

    Raises:
        UsageError: a port is taken, or is to stay the run's own, or there is no such rank.
        GpuyardError: the run doesn't run, or was removed.
        Forbidden: the user may get at no ports of pods.
    """
    if not target.is_yard:
        await check_right(open_port(target.api, target.namespace, NO_POD, 1))
    own = {pair.remote for pair in pairs} if target.is_yard else set()
    watch = RunWatch(target, name)
    async with watch.watching():
        while not watch.is_synced:
            await watch.change()
        live_pod(target, watch.run, rank)
        forwarder = Forwarder(
            target,
            lambda port: (live_pod(target, watch.run, rank).name, port),
            lambda: has_ended(watch.run),
            notify,
        )
        async with contextlib.AsyncExitStack() as stack:
            for pair in pairs:
                port = await stack.enter_async_context(forwarder.listening(pair.remote, listeners(pair, own)))
                where = f"port {pair.remote} of {name}" + (f", rank {rank}" if rank is not None else "")
                if own and pair.local is None:
                    where += f" (on a yard, port {pair.remote} of this machine is the run's own)"
                notify(Notice(f"http://127.0.0.1:{port} is {where}"))
            while not has_ended(watch.run):
                await next_change(watch)
            notify(Notice(state_text(watch.run)))
            return watch.run


async def next_change(watch: NamedWatch) -> None:
    """Waits for one; an API that is away is waited for, for however long."""
    try:
        await watch.change()
    except errors.ConnectionFailed:
        await asyncio.sleep(_PAUSE_S)


class Forwarder:
    """Owns the connections, and what was said of their failures.

    Args:
        target: where the pods are.
        place: the pod, and the port of it, that the next connection to this port goes to; raises GpuyardError
            while there is none.
        is_over: whether none will come any more.
        notify: told what goes wrong.
    """

    def __init__(
        self,
        target: Target,
        place: Callable[[int], tuple[str, int]],
        is_over: Callable[[], bool],
        notify: Notify,
    ) -> None:
        self._target, self._place, self._is_over, self._notify = target, place, is_over, notify
        self._said = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, remote: int, sockets: Sequence[socket.socket]) -> AsyncIterator[int]:
        """Takes connections of these sockets to a port of the pod; gives theirs. Its end ends them."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(remote, reader, writer)
            finally:
                self._tasks.discard(task)

        servers = [await asyncio.start_server(serve, sock=one) for one in sockets]
        try:
            yield int(sockets[0].getsockname()[1])
        finally:
            for server in servers:
                server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._opened(port) as opened:
                self._said = ""
                sending = asyncio.create_task(_send(reader, opened), name=f"to port {port}")
                try:
                    async for piece in opened.output():
                        writer.write(piece)
                        await writer.drain()
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        except ConnectionError:
            pass  # whoever connected here has left
        except errors.GpuyardError as error:
            self._tell(f"a connection to port {port} failed: {_shortened(error.message)}")
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def _opened(self, port: int) -> AsyncIterator[PodPort]:
        """A connection to the pod that there is, once there is one and the API answers.

        Raises:
            GpuyardError: that took too long.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + _PATIENCE_S
        async with contextlib.AsyncExitStack() as stack:
            while True:
                try:
                    opening = open_port(self._target.api, self._target.namespace, *self._place(port))
                    opened = await stack.enter_async_context(opening)
                    break
                except errors.Forbidden:
                    raise
                except errors.GpuyardError:
                    if loop.time() > due or self._is_over():
                        raise
                    await asyncio.sleep(_PAUSE_S)
            yield opened

    def _tell(self, text: str) -> None:
        """Once, until a connection works again."""
        if text != self._said:
            self._said = text
            self._notify(Notice(text))


async def _send(reader: asyncio.StreamReader, opened: PodPort) -> None:
    while data := await reader.read(_READ_BYTES):
        await opened.write(data)
    await opened.close_input()


def listeners(pair: PortPair, own: Collection[int]) -> list[socket.socket]:
    """Of the port that was named, else of the pod's, or of the next free one where that is the run's own.

    Args:
        pair: which ports.
        own: the run's, where it shares this machine's network.

    Raises:
        UsageError: it is taken, or it is the run's own: then the run couldn't have it.
    """
    if pair.local in own:
        raise errors.UsageError(
            f"port {pair.local} of this machine is the run's own: runs of a yard share its network",
            remedy=f"write {pair.remote} for another port of this machine, or open "
            f"http://127.0.0.1:{pair.remote} without `forward`",
        )
    if pair.local is not None or not own:
        return _bound(pair.remote if pair.local is None else pair.local, pair.remote)
    for port in range(pair.remote + 1, 65536):
        with contextlib.suppress(errors.UsageError):
            if port not in own:
                return _bound(port, pair.remote)
    return _bound(0, pair.remote)


def _bound(port: int, remote: int) -> list[socket.socket]:
    """On both loopback addresses alone, as far as the machine has them."""
    made: list[socket.socket] = []
    named = port
    for family, address in _LOOPBACK:
        one = socket.socket(family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((address, port))
        except OSError as error:
            one.close()
            if family is socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            for other in made:
                other.close()
            free = f"{remote}" if not named else f"{named + 1}:{remote}"
            raise errors.UsageError(
                f"port {port} of {address} can't be had: {error.strerror}",
                remedy=f"name another, such as {free}, or :{remote} for any that is free",
            ) from error
        port = one.getsockname()[1]
        made.append(one)
    return made


def _shortened(text: str) -> str:
    """Of a node's message what matters: `... connect: connection refused`."""
    return "nobody listens there (connection refused)" if "connection refused" in text else text
