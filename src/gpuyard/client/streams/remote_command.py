"""A process in a pod, over one WebSocket: `v5.channel.k8s.io`, and `v4` of servers before 1.30.

Each message begins with a byte that says what the rest is of: 0 standard input, 1 output, 2 error, 3 how it
ended (`v1.Status`), 4 the terminal's size; in v5 255 closes the channel that follows.
Source: k8s.io/apimachinery `pkg/util/remotecommand/constants.go`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.client.streams.websocket import Bytes, WebSocket, open_websocket
from gpuyard.kube.status import error_of

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"


class Channel(IntEnum):
    """What a message is of."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4
    CLOSE = 255


@dataclass(frozen=True)
class Streams:
    """What is connected to a process.

    Attributes:
        stdin: whether it is to be given input.
        tty: whether it runs in a terminal, which has no standard error of its own.
    """

    stdin: bool = False
    tty: bool = False


class RemoteCommand:
    """One process; see `open_exec`.

    `exit_code` is what it ended with, once `output` is at its end; None when that isn't known.
    """

    def __init__(self, socket: WebSocket) -> None:
        self.exit_code: int | None = None
        self._socket = socket

    async def output(self) -> AsyncGenerator[tuple[Channel, Bytes], None]:
        """What it writes, as it comes, to its end.

        Raises:
            ApiError: it couldn't be started, or what the server says instead of an exit code.
            ConnectionFailed: the connection was cut before it had ended.
        """
        channel, status = -1, bytearray()
        while (piece := await self._socket.receive_piece()) is not None:
            data = memoryview(piece.data)
            if piece.begins and data:
                channel, data = data[0], data[1:]
            if channel == Channel.STATUS:
                status += data
                if piece.ends and status:
                    self.exit_code = _exit_code(bytes(status))
                    return
            # Without data the server says that a channel is there.
            elif data and channel in (Channel.STDOUT, Channel.STDERR):
                yield Channel(channel), data

    async def write(self, data: Bytes) -> None:
        """Gives it input."""
        await self._socket.send(b"\x00", data)

    async def close_input(self) -> None:
        """Ends its input.

        Raises:
            GpuyardError: the server speaks only v4, which has no word for it.
        """
        if self._socket.protocol == V4:
            raise errors.GpuyardError(
                "this cluster is too old to be told that the input has ended",
                remedy="it takes Kubernetes 1.30: give the command its input otherwise, such as by `cp`",
            )
        await self._socket.send(bytes([Channel.CLOSE, Channel.STDIN]))

    async def resize(self, columns: int, rows: int) -> None:
        """Tells its terminal's size."""
        size = json.dumps({"Width": columns, "Height": rows}).encode()
        await self._socket.send(bytes([Channel.RESIZE]), size)


@asynccontextmanager
async def open_exec(
    api: RestApi, namespace: str, pod: str, container: str, command: Sequence[str], streams: Streams
) -> AsyncIterator[RemoteCommand]:
    """Starts a process in a container; it isn't ended by the end of the context.

    Raises:
        NotFound, BadRequest: no such pod or container, or it doesn't run.
        Forbidden: the user may not `get` or `create` pods/exec.
        ConnectionFailed: nobody answers, or somebody between doesn't let WebSockets through.
    """
    async with _opened(api, namespace, pod, "exec", _query(container, streams, command)) as opened:
        yield opened


@asynccontextmanager
async def open_attach(
    api: RestApi, namespace: str, pod: str, container: str, streams: Streams
) -> AsyncIterator[RemoteCommand]:
    """The container's own process, with what it writes from now on; else as `open_exec`."""
    async with _opened(api, namespace, pod, "attach", _query(container, streams)) as opened:
        yield opened


@asynccontextmanager
async def _opened(
    api: RestApi, namespace: str, pod: str, verb: str, query: Mapping[str, str | Sequence[str]]
) -> AsyncIterator[RemoteCommand]:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/{verb}"
    async with open_websocket(api, path, query, (V5, V4)) as socket:
        yield RemoteCommand(socket)


def _query(container: str, streams: Streams, command: Sequence[str] = ()) -> dict[str, str | Sequence[str]]:
    """Source: `v1.PodExecOptions` and `v1.PodAttachOptions`."""
    query: dict[str, str | Sequence[str]] = {"container": container, "stdout": "true"}
    query["tty" if streams.tty else "stderr"] = "true"
    if streams.stdin:
        query["stdin"] = "true"
    if command:
        query["command"] = list(command)
    return query


def _exit_code(raw: bytes) -> int:
    """The code in a Status.

    Raises:
        ApiError: the Status is about something else.
        ConnectionFailed: it is none.
    """
    try:
        status: dict[str, Any] = json.loads(raw)
        if status.get("status") == "Success":
            return 0
        if status.get("reason") == "NonZeroExitCode":
            causes = status["details"]["causes"]
            return int(next(cause["message"] for cause in causes if cause["reason"] == "ExitCode"))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise errors.ConnectionFailed(
            f"the API ends a process with what is no Status: {raw[:200]!r}"
        ) from error
    raise error_of(status, int(status.get("code") or 500))
