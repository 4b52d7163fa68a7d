from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gpuyard.client.log_place import Gap, LogOptions
from gpuyard.client.rest import RestApi
from gpuyard.runs.following.pod_log import Output, PodLog, start_of
from gpuyard.runs.target import Target


class Streams:
    """A server of one pod's log, in streams which are cut; the last one is whole. A yard's have an offset."""

    def __init__(self, *streams: tuple[int | None, bytes]) -> None:
        self.left = list(streams)
        self.head = "" if streams[0][0] is None else "Gpuyard-Version: 1\r\n"
        self.asked: list[str] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        if self.asked[-1].split("?")[0].endswith("/log"):
            offset, text = self.left[0]
            is_whole = len(self.left) == 1
            length = len(text) + (0 if is_whole else 100)
            if not is_whole:
                del self.left[0]
            header = self.head + ("" if offset is None else f"Gpuyard-Log-Offset: {offset}\r\n")
        else:
            text = json.dumps({"metadata": {"uid": "u"}, "spec": {}, "status": {"phase": "Failed"}}).encode()
            length, header = len(text), self.head
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{header}\r\n".encode() + text)
        await writer.drain()
        writer.close()


ONE, TWO, THREE = (
    b"2026-01-31T12:00:00.00000000%dZ %s\n" % (number, text)
    for number, text in enumerate((b"one", b"two", b"three"))
)


@pytest.mark.parametrize(
    ("streams", "tail", "out", "err"),
    [
        # What was printed isn't printed again, as long as the log has its front.
        ([(None, ONE + TWO[:-3]), (None, ONE + TWO)], None, "one\ntwo\n", ""),
        ([(None, ONE + TWO[:9]), (None, b""), (None, ONE + TWO)], None, "one\ntwo\n", ""),
        ([(None, ONE + TWO[:-3]), (None, TWO + THREE)], None, "one\ntwo\nthree\n", ""),
        ([(None, ONE), (None, THREE)], None, "one\nthree\n", "(lines may be missing here"),
        ([(None, TWO), (None, ONE + TWO + THREE)], 1, "two\nthree\n", ""),
        ([(0, b"one\ntw"), (0, b"one\ntwo\n")], None, "one\ntwo\n", ""),
        # Its front was dropped: some of what is left was printed, or nothing.
        ([(0, b"one\ntw"), (4, b"two\nthree\n")], None, "one\ntwo\nthree\n", ""),
        ([(0, b"one\n"), (8, b"three\n")], None, "one\nthree\n", "(4 bytes are missing here"),
        # After the last lines nothing is lost either.
        ([(4, b"two\n"), (0, b"one\ntwo\nthree\n")], 1, "two\nthree\n", ""),
    ],
)
async def test_a_log_goes_on_where_it_was_cut(
    streams: list[tuple[int | None, bytes]],
    tail: int | None,
    out: str,
    err: str,
) -> None:
    server = Streams(*streams)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder) / "api"
        async with await asyncio.start_unix_server(server.handle, socket), RestApi(unix_socket=socket) as api:
            pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {}}
            await api.get_path("/version")
            log = PodLog(Target(api, "n", is_yard=True), pod, LogOptions(tail))
            events = [event async for event in log.follow(0)]
    assert b"".join(event.data for event in events if isinstance(event, Output)).decode() == out
    gaps = [event.text for event in events if isinstance(event, Gap)]
    assert len(gaps) == bool(err) and all(err in text for text in gaps)


@pytest.mark.parametrize(
    ("status", "start"),
    [
        ({}, None),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}, "restartCount": 0}, None),
        ({"state": {"running": {}}, "restartCount": 0}, 0),
        ({"state": {"terminated": {}}, "restartCount": 2}, 2),
        # It waits for its next start, which the count may include already.
        ({"state": {"waiting": {}}, "lastState": {"terminated": {}}, "restartCount": 1}, -1),
    ],
)
def test_which_start_of_its_container_a_pod_has_output_of(status: dict[str, Any], start: int | None) -> None:
    assert start_of({"status": {"containerStatuses": [status] if status else []}}) == start
