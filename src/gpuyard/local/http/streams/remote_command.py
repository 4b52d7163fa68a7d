"""exec and attach: one message is one byte that names a channel, and data. Sources: kubernetes
`k8s.io/kubelet/pkg/cri/streaming/remotecommand` (websocket.go), `k8s.io/client-go/tools/remotecommand`.

    0 stdin    1 stdout    2 stderr    3 a v1.Status at the end    4 {"Width": …, "Height": …}
    255 (v5 only): the channel named in the data has no more input

Nothing is kept here but one piece per channel: a client that doesn't read stops the program, one that writes
what the program doesn't read has to wait.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.kube.status import status_of
from gpuyard.local.http.streams.websocket import HEAD_ROOM, ServedWebSocket
from gpuyard.local.objects.pod_streams import ContainerStreams, ProgramInput

SUBPROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _ERROR, _RESIZE, _CLOSE = 0, 1, 3, 4, 255
_PIPE_BYTES = 64 << 10
_BIG_PIPE_BYTES = 1 << 20
#: Input that the program hasn't taken yet; above it the client has to wait.
_MAX_INPUT_BYTES = 1 << 20
#: A terminal's end comes through a queue of the kernel.
_TERMINAL_END_S = 1.0
#: Most columns and rows that a terminal may say to have.
_MAX_SIZE = 65535


async def serve(socket: ServedWebSocket, streams: ContainerStreams, *, tty: bool) -> None:
    """Carries everything to and fro until the program ends or the client leaves; closes the streams."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    given = _Input(streams)
    code = asyncio.create_task(streams.wait(), name="exec-end")
    gone = asyncio.create_task(socket.gone.wait(), name="exec-client")
    pumps = [
        asyncio.create_task(_pump(socket, channel, fd, ended, tty=tty), name="exec-output")
        for channel, fd in streams.outputs.items()
    ]
    tasks = [
        code,
        gone,
        *pumps,
        asyncio.create_task(_take(socket, streams, given), name="exec-messages"),
        asyncio.create_task(given.write(), name="exec-input"),
    ]
    try:
        # As Kubernetes does: who waits for the start waits for a first message.
        await socket.send(next(iter(streams.outputs), _ERROR), b"")
        await asyncio.wait((code, gone), return_when=asyncio.FIRST_COMPLETED)
        ended.set_result(None)
        if pumps and not gone.done():
            drained = asyncio.gather(*pumps)
            await asyncio.wait((drained, gone), return_when=asyncio.FIRST_COMPLETED)
        if not gone.done():
            await socket.send(_ERROR, orjson.dumps(status_of_end(code.result())))
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.shield(streams.close())
    for result in results:
        if isinstance(result, Exception):
            raise result
    await socket.close()


async def follow(socket: ServedWebSocket, pieces: AsyncGenerator[bytes, None], command: ProgramInput) -> None:
    """Sends what a container prints, and gives it what the client writes, to its end or the client's."""

    async def send() -> None:
        async for piece in pieces:
            await socket.send(_STDOUT, piece)

    given = _Input(command)
    sending = asyncio.create_task(send(), name="attach-output")
    receiving = asyncio.create_task(_take(socket, command, given), name="attach-messages")
    writing = asyncio.create_task(given.write(), name="attach-input")
    gone = asyncio.create_task(socket.gone.wait(), name="attach-client")
    try:
        await socket.send(_STDOUT, b"")
        await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        tasks = (sending, receiving, writing, gone)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await pieces.aclose()
    for result in results:
        if isinstance(result, Exception):
            raise result
    if not socket.gone.is_set():
        await socket.send(_ERROR, orjson.dumps(status_of_end(None)))
    await socket.close()


async def refuse(socket: ServedWebSocket, error: errors.GpuyardError) -> None:
    """Ends a stream that can't be opened, or can't go on."""
    if not isinstance(error, errors.ApiError):
        error = errors.InternalError(error.message, remedy=error.remedy)
    await socket.send(_ERROR, orjson.dumps(status_of(error)))
    await socket.close()


def status_of_end(code: int | None) -> dict[str, Any]:
    """The Status of a program's end, as Kubernetes sends it."""
    if not code:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def _pump(
    socket: ServedWebSocket, channel: int, descriptor: int, ended: asyncio.Future[None], *, tty: bool
) -> None:
    """Sends what the program writes until its end, and then what is left of it.

    What others hold open beyond that end isn't waited for, and what they print isn't read for ever: of the
    program's own there is at most a pipe's worth. A terminal says so when its last holder is gone.
    """
    size = _PIPE_BYTES
    buffer = bytearray(HEAD_ROOM + size)
    clock = asyncio.get_running_loop().time
    left: int | None = None
    until = math.inf
    while left is None or left > 0:
        if left is None and ended.done():
            left, until = size, clock() + _TERMINAL_END_S
        try:
            count = os.readv(descriptor, [memoryview(buffer)[HEAD_ROOM:]])
        except BlockingIOError:
            if left is None:
                await _readable(descriptor, ended, None)
            elif not tty or not await _readable(descriptor, None, until - clock()):
                return
            continue
        except OSError:  # the end of a terminal
            return
        if not count:
            return
        left = None if left is None else left - count
        is_free = await socket.send_from(channel, buffer, count)
        if count == size < _BIG_PIPE_BYTES:
            # Somebody has much to say. A user's pipes share one bound, so only these are enlarged.
            size = _BIG_PIPE_BYTES
            _enlarge(descriptor)
            is_free = False
        if not is_free:
            buffer = bytearray(HEAD_ROOM + size)
        await asyncio.sleep(0)  # others have their turn


async def _readable(descriptor: int, ended: asyncio.Future[None] | None, timeout_s: float | None) -> bool:
    """Waits until something can be read, or for the program's end; whether something can be read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    waiting = asyncio.ensure_future(ready.wait())
    others = () if ended is None else (ended,)
    try:
        await asyncio.wait(
            (waiting, *others),
            timeout=timeout_s if timeout_s is None else max(timeout_s, 0),
            return_when=asyncio.FIRST_COMPLETED,
        )
        return ready.is_set()
    finally:
        loop.remove_reader(descriptor)
        waiting.cancel()


def _enlarge(pipe: int) -> None:
    with suppress(OSError):  # a terminal, or the user has many
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _BIG_PIPE_BYTES)


async def _take(socket: ServedWebSocket, streams: ProgramInput, given: _Input) -> None:
    """Does what the client's messages say. Those that Kubernetes ignores are ignored."""
    while (message := await socket.receive()) is not None:
        if not message:
            continue
        channel, data = message[0], message[1:]
        if channel == _STDIN and data:
            await given.put(data)
        elif channel == _RESIZE:
            size = _parse_size(data)
            if size is not None:
                streams.resize(*size)
        elif channel == _CLOSE and data[:1] == bytes((_STDIN,)) and socket.subprotocol == SUBPROTOCOLS[0]:
            await given.put(None)


def _parse_size(data: bytes) -> tuple[int, int] | None:
    try:
        raw = orjson.loads(data)
        width, height = int(raw["Width"]), int(raw["Height"])
    except (ValueError, KeyError, TypeError):
        return None
    return (width, height) if 0 < width <= _MAX_SIZE and 0 < height <= _MAX_SIZE else None


class _Input:
    """What the client has written and the program hasn't taken yet. None is its end."""

    def __init__(self, streams: ProgramInput) -> None:
        self._streams = streams
        self._waiting: deque[bytes | None] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()

    async def put(self, data: bytes | None) -> None:
        """Adds a piece; waits while there is too much."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._bytes < _MAX_INPUT_BYTES)
            self._waiting.append(data)
            self._bytes += len(data or b"")
            self._changed.notify_all()

    async def write(self) -> None:
        """Writes it all, for ever."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._waiting)
                data = self._waiting.popleft()
            if data is None:
                self._streams.close_stdin()
                continue
            await self._write(memoryview(data))
            async with self._changed:
                self._bytes -= len(data)
                self._changed.notify_all()

    async def _write(self, data: memoryview) -> None:
        while data and (descriptor := self._streams.stdin) is not None:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                _enlarge(descriptor)
                await _writable(descriptor)
            except OSError:  # the program reads no more
                self._streams.close_stdin()


async def _writable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)
