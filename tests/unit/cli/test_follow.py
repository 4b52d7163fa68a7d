from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.cli.follow import attached, exit_code_of
from gpuyard.cli.log_output import LogOutput
from gpuyard.cli.output import StatusLine
from gpuyard.cli.pod_log import PodLog, start_of
from gpuyard.client.rest import RestApi
from gpuyard.runs.run import Run, find_run, make_run
from gpuyard.runs.target import Target


def run_of(condition: str, phase: str, exit_code: int | None, **annotations: str) -> Run:
    terminated = {"exitCode": exit_code, "finishedAt": "2026-01-31T12:00:00Z"}
    status: dict[str, Any] = {"phase": phase}
    if exit_code is not None:
        status["containerStatuses"] = [{"name": "main", "state": {"terminated": terminated}}]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "1", "controller": True}
    metadata = {"name": "a-x", "creationTimestamp": "2026-01-31T11:00:00Z", "ownerReferences": [owner]}
    pod = {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status}
    job = {
        "metadata": {
            "name": "a",
            "uid": "1",
            "creationTimestamp": "2026-01-31T11:00:00Z",
            "labels": {"gpuyard.io/run": "a"},
            "annotations": annotations,
        },
        "spec": {"template": {"spec": {"containers": [{"name": "main"}]}}},
        "status": {"conditions": [{"type": condition, "status": "True"}]},
    }
    return make_run(job, [pod])


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_of("Complete", "Succeeded", 0), 0),
        (run_of("Failed", "Failed", 3), 3),
        (run_of("Failed", "Failed", None), 125),
        (run_of("Failed", "Failed", 143, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 143),
        # It took SIGTERM as the wish to end, and ended well.
        (run_of("Failed", "Failed", 0, **{"gpuyard.io/stopped-at": "2026-01-31T11:59:00Z"}), 0),
    ],
)
def test_the_exit_code_is_that_of_the_process_where_there_is_one(run: Run, code: int) -> None:
    assert exit_code_of(run) == code


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """Nobody listens there."""
    options = ("--context", "kind", "--namespace", "team")
    async with RestApi(unix_socket=Path("/tmp/gpuyard-nobody")) as api:
        yield Target(api, "team", is_yard=False, options=options)


async def test_ctrl_c_after_the_submit_detaches_whatever_is_going_on(
    target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    async def print_something_first() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        return 1

    assert await attached(target, "a", print_something_first(), ours=True) == 0
    assert capsys.readouterr().err == (
        "\nDetached: a goes on. Attach again: gpuyard logs -f a --context kind --namespace team\n"
        "End it: gpuyard stop a --context kind --namespace team\n"
    )


@pytest.mark.parametrize(("ours", "code"), [(True, 125), (False, 1)])
async def test_our_own_failure_after_the_submit_is_code_125(target: Target, ours: bool, code: int) -> None:
    async def ask() -> int:
        await find_run(target, "a")
        return 0

    with pytest.raises(errors.ConnectionFailed) as caught:
        await attached(target, "a", ask(), ours=ours)
    assert caught.value.exit_code == code
    if ours:
        assert caught.value.remedy == "the run may go on: gpuyard show a --context kind --namespace team"


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
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    server = Streams(*streams)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder) / "api"
        async with await asyncio.start_unix_server(server.handle, socket), RestApi(unix_socket=socket) as api:
            pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {}}
            await api.get_path("/version")
            log = PodLog(Target(api, "n", is_yard=True), pod, LogOutput(), tail_lines=tail)
            await log.follow(0, StatusLine())
    said = capfdbinary.readouterr()
    assert said.out.decode() == out
    assert err in said.err.decode()
    assert ("missing" in said.err.decode()) == bool(err)


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
