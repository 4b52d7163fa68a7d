from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest

from gpuyard import __version__, errors
from gpuyard.client.http.exchange import ClientRequest
from gpuyard.local.paths import YardPaths
from gpuyard.local.yard_http import YardHttp


async def ask(folder: Path, *headers: str) -> int:
    """The status of the answer of a server that sends these headers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join(("HTTP/1.1 200 OK", "Content-Length: 0", *headers, "", "")).encode())
        await writer.drain()
        writer.close()

    paths = YardPaths(folder, folder)
    async with await asyncio.start_unix_server(answer, paths.api_socket):
        http = YardHttp(paths)
        try:
            await http.connect()
            async with http.send(ClientRequest("GET", "/version")) as found:
                return found.status
        finally:
            await http.aclose()


async def test_a_yard_of_this_release_answers(tmp_path: Path) -> None:
    assert await ask(tmp_path, f"gpuyard-version: {__version__}") == 200


@pytest.mark.parametrize(
    ("headers", "named"), [(("gpuyard-version: 0.0.7",), "0.0.7"), ((), "an unknown version")]
)
async def test_another_release_is_named(tmp_path: Path, headers: tuple[str, ...], named: str) -> None:
    with pytest.raises(errors.VersionMismatch, match=named) as caught:
        await ask(tmp_path, *headers)
    assert "gpuyard down --keep" in caught.value.remedy


async def test_a_silence_is_told_once_while_the_answer_is_waited_for(tmp_path: Path) -> None:
    paths, silent, told = YardPaths(tmp_path, tmp_path), asyncio.Event(), list[str]()
    paths.lock.write_text("1")

    def on_silence(text: str) -> None:
        told.append(text)
        silent.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await silent.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    with paths.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with await asyncio.start_unix_server(answer, paths.api_socket):
            http = YardHttp(paths, on_silence, any_release=True)
            await http.connect()
            async with http.send(ClientRequest("GET", "/version")) as found:
                assert found.status == 200
            await http.aclose()
    (text,) = told
    assert text.startswith("the yard (pid 1, state ") and " doesn't answer yet: " in text


async def test_an_answer_that_never_comes_is_the_daemons_silence(tmp_path: Path) -> None:
    paths, closed = YardPaths(tmp_path, tmp_path), asyncio.Event()
    paths.lock.write_text("1")

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    with paths.lock.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with await asyncio.start_unix_server(swallow, paths.api_socket):
            http = YardHttp(paths)
            await http.connect()
            with pytest.raises(errors.Stalled, match=r"the yard \(pid 1, state .* doesn't answer"):
                async with http.send(ClientRequest("GET", "/version", silence_timeout_s=0.05)):
                    pass
            await http.aclose()
            await closed.wait()


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(errors.YardStopped):
        await YardHttp(YardPaths(tmp_path, tmp_path)).connect()
