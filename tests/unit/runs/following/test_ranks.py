"""The output of several ranks, from a server with growing logs: a yard's, in frames, and a cluster's."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gpuyard.client.log_place import LOG_FRAMES, LogOptions, dated, frame
from gpuyard.client.rest import RestApi
from gpuyard.kube.wellknown import ANNOTATION_COMPLETION_INDEX
from gpuyard.runs.following.pod_log import Output
from gpuyard.runs.following.ranks import Numbering, OfRank, RankLogs
from gpuyard.runs.run import make_run
from gpuyard.runs.target import Target

MOMENT = "1970-01-01T00:00:00Z"
US = 1_000_000


class Logs:
    """The logs of two pods, line by line with their seconds; who follows waits for more."""

    def __init__(self, *, is_yard: bool) -> None:
        self.is_yard = is_yard
        self.lines: dict[str, list[tuple[int, bytes]]] = {"a-0-x": [], "a-1-x": []}
        self.grown = asyncio.Condition()
        self.refuses = 0

    async def add(self, rank: int, second: int, text: bytes) -> None:
        async with self.grown:
            self.lines[f"a-{rank}-x"].append((second, text))
            self.grown.notify_all()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = urlsplit((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        query = parse_qs(url.query)
        lines = self.lines[url.path.split("/")[-2]]
        headers = b""
        if self.refuses:
            self.refuses -= 1
            writer.write(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            if self.is_yard:
                headers = b"Content-Type: " + LOG_FRAMES.encode() + b"\r\nGpuyard-Version: 1\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + headers + b"\r\n")
            sending = asyncio.create_task(self._send(lines, "follow" in query, writer))
            gone = asyncio.create_task(reader.read())
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        writer.close()

    async def _send(
        self, lines: list[tuple[int, bytes]], is_followed: bool, writer: asyncio.StreamWriter
    ) -> None:
        offset, sent = 0, 0
        while True:
            for second, text in lines[sent:]:
                time_us = second * US
                piece = frame(offset, text, time_us) if self.is_yard else dated(text, time_us, is_open=False)
                offset += len(text)
                writer.write(piece)
            sent = len(lines)
            await writer.drain()
            if not is_followed:
                return
            async with self.grown:
                while len(lines) == sent:
                    await self.grown.wait()


def pod(rank: int) -> dict[str, Any]:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "j", "controller": True}
    name = f"a-{rank}-x"
    metadata = {"name": name, "namespace": "n", "uid": name, "labels": {"gpuyard.io/run": "a"}}
    statuses = [{"name": "main", "state": {"running": {}}, "restartCount": 0}]
    return {
        "metadata": {
            **metadata,
            "annotations": {ANNOTATION_COMPLETION_INDEX: str(rank)},
            "creationTimestamp": MOMENT,
            "ownerReferences": [owner],
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "startTime": MOMENT, "containerStatuses": statuses},
    }


def _begin(tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
    tasks.create_task(work)


@asynccontextmanager
async def following(logs: Logs, options: LogOptions) -> AsyncIterator[RankLogs]:
    template = {"spec": {"containers": [{"name": "main"}]}}
    spec = {"completionMode": "Indexed", "completions": 2, "template": template}
    job = {"metadata": {"name": "a", "uid": "j", "creationTimestamp": MOMENT}, "spec": spec, "status": {}}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder, "api")
        async with (
            asyncio.TaskGroup() as handlers,
            await asyncio.start_unix_server(lambda *ends: _begin(handlers, logs.handle(*ends)), socket),
            RestApi(unix_socket=socket) as api,
        ):
            if logs.is_yard:
                api.server_headers = {"gpuyard-version": "1"}
            async with RankLogs(Target(api, "n", is_yard=logs.is_yard), options, (), Numbering()) as ranks:
                ranks.update(make_run(job, [pod(0), pod(1)]).pods)
                yield ranks


async def said(ranks: RankLogs, count: int) -> list[tuple[int, bytes]]:
    """So many lines, and no more than there are."""
    lines: list[tuple[int, bytes]] = []
    async with asyncio.timeout(60):
        while len(lines) < count:
            piece = await ranks.next()
            assert isinstance(piece, OfRank) and isinstance(piece.event, Output)
            lines += [(piece.rank, line) for line in piece.event.data.splitlines()]
    return lines


@pytest.mark.parametrize("refuses", [0, 1, 2])
@pytest.mark.parametrize("tail", [None, 100])
@pytest.mark.parametrize("is_yard", [True, False])
async def test_what_is_there_comes_in_the_order_of_time_and_then_what_comes(
    is_yard: bool, tail: int | None, refuses: int
) -> None:
    logs = Logs(is_yard=is_yard)
    for second in range(1, 41):
        await logs.add(second % 2, second, b"%d\n" % second)
    logs.refuses = refuses
    async with following(logs, LogOptions(tail_lines=tail)) as ranks:
        past = await said(ranks, 40)
        await logs.add(1, 41, b"41\n")
        new = await said(ranks, 1)
        await logs.add(0, 41, b"41\n")
        new += await said(ranks, 1)
    if refuses:  # what couldn't be read then comes as it can be had
        for rank in (0, 1):
            own = [int(line) for of, line in past if of == rank]
            assert own == sorted(own) and len(own) == 20
    else:
        assert past == [(second % 2, b"%d" % second) for second in range(1, 41)]
    assert new == [(1, b"41"), (0, b"41")]


@pytest.mark.parametrize("is_yard", [True, False])
async def test_a_line_that_goes_on_is_neither_broken_nor_doubled(is_yard: bool) -> None:
    logs = Logs(is_yard=is_yard)
    await logs.add(0, 1, b"10 %")
    await logs.add(1, 2, b"here\n")
    async with following(logs, LogOptions()) as ranks:
        assert await said(ranks, 2) == [(0, b"10 %"), (1, b"here")]
        if is_yard:
            await logs.add(0, 3, b"\r20 %\n")
            assert await said(ranks, 2) == [(0, b""), (0, b"20 %")]
        await logs.add(0, 3, b"end\n")
