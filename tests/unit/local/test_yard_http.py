from __future__ import annotations

import asyncio
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


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(errors.YardStopped):
        await YardHttp(YardPaths(tmp_path, tmp_path)).connect()
