import asyncio
import gc
import os
import resource
import socket as socketlib
import stat
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.agent.metrics.server import MetricsServer
from tests.waiting import until_async


async def scrape() -> str:
    return 'up{pod="é"} 1\n'


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    server = MetricsServer(scrape)
    (tmp_path / "metrics.sock").touch()
    await server.listen(tmp_path / "metrics.sock")
    yield tmp_path / "metrics.sock"
    await server.close()


async def ask(socket: Path, request: bytes, *, more: bool = False) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(request)
    if not more:
        writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""  # It was closed before what was sent had been read.
    finally:
        writer.close()


async def test_metrics_are_served_to_the_user_alone(socket: Path) -> None:
    head, _, body = (await ask(socket, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n")
    assert body.decode() == await scrape()
    assert f"Content-Length: {len(body)}".encode() in head
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"HEAD /metrics HTTP/1.1", b"200"),
        (b"GET /healthz HTTP/1.0", b"200"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"GET /other HTTP/1.1", b"404"),
        (b"GET /metrics", b"400"),
        (b"\x16\x03\x01\x00", b"400"),
        (b"GET /metrics SPDY/3", b"400"),
    ],
)
async def test_other_requests(socket: Path, request_line: bytes, status: bytes) -> None:
    answer = await ask(socket, request_line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.endswith(b"\r\n\r\n") == request_line.startswith(b"HEAD")


@pytest.mark.parametrize("request_", [b"GET /metrics HTTP/1.1\r\n", b"x" * 100_000, b""])
async def test_who_sends_no_request_gets_none(socket: Path, request_: bytes) -> None:
    assert await ask(socket, request_) == b""
    assert (await ask(socket, b"GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok\n")


async def test_who_connects_and_asks_nothing_keeps_nobody_out(socket: Path) -> None:
    idle = [await asyncio.open_unix_connection(socket) for _ in range(40)]
    for _, writer in idle[20:]:
        writer.write(b"GET /met")
    assert (await ask(socket, b"GET /healthz HTTP/1.1\r\n\r\n", more=True)).endswith(b"ok\n")
    # The oldest make room.
    assert await idle[0][0].read() == b""
    for _, writer in idle:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_who_does_not_read_the_answer_costs_nothing_for_long(tmp_path: Path) -> None:
    async def long() -> str:
        return "x" * (4 << 20)

    server = MetricsServer(long, limit_s=0.1)
    await server.listen(tmp_path / "m.sock")
    before = len(os.listdir("/proc/self/fd"))
    _, writer = await asyncio.open_unix_connection(tmp_path / "m.sock", limit=1)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    await until_async(lambda: len(os.listdir("/proc/self/fd")) == before + 1, "the server has closed its end")
    writer.close()
    await server.close()


async def test_an_answer_in_several_parts_leaves_no_error(tmp_path: Path) -> None:
    found: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: found.append(about["message"]))

    async def large() -> str:
        return "up 1\n" * 500_000

    server = MetricsServer(large)
    await server.listen(tmp_path / "metrics.sock")
    answer = await ask(tmp_path / "metrics.sock", b"GET /metrics HTTP/1.1\r\n\r\n")
    await server.close()
    gc.collect()
    assert len(answer) > 2_500_000 and found == []


async def test_without_descriptors_it_says_so_once_and_answers_later(
    socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = socketlib.socket(socketlib.AF_UNIX)
    client.setblocking(False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(client.fileno())
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        client.connect(str(socket))
        await until_async(lambda: bool(caplog.records), "it was said")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    reader, writer = await asyncio.open_connection(sock=client)
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert (await reader.read()).endswith(b"ok\n")
    writer.close()
    assert [each.message for each in caplog.records] == ["takes no connections for now: Too many open files"]


async def test_a_port_that_is_taken_is_told() -> None:
    with closing(socketlib.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.DeviceError, match="can't serve metrics") as caught:
            await MetricsServer(scrape).listen(("127.0.0.1", port))
    assert "another exporter" in caught.value.remedy


async def test_without_an_address_it_answers_on_both_families() -> None:
    with closing(socketlib.create_server(("::", 0), family=socketlib.AF_INET6)) as free:
        port = free.getsockname()[1]
    server = MetricsServer(scrape)
    await server.listen((None, port))
    try:
        for address in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            writer.close()
    finally:
        await server.close()
