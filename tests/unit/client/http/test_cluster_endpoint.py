"""Straight to a cluster's server, without a proxy: addresses, TLS, and what a yard's socket never sends."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.http import cluster_endpoint
from gpuyard.client.http.cluster_endpoint import ClusterEndpoint
from gpuyard.client.http.direct_http import DirectHttp
from gpuyard.client.http.exchange import ClientRequest, Wire
from gpuyard.local.http.server.certificates import Pki

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = ClientRequest("GET", "/version")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server whose connections end with it."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()


def answering(*answers: bytes, heads: list[bytes] | None = None, ports: set[int] | None = None) -> Handler:
    """Says the same to every request, and remembers heads and the clients' ports."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if heads is not None:
                heads.append(head)
            if ports is not None:
                ports.add(writer.get_extra_info("peername")[1])
            for answer in answers:
                writer.write(answer)
                await writer.drain()

    return handle


@asynccontextmanager
async def http_to(server: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[DirectHttp]:
    http = DirectHttp(ClusterEndpoint(Connection(server, tls=tls)))
    yield http
    await http.aclose()


async def read(http: DirectHttp) -> bytes:
    async with http.send(GET) as answer:
        return await answer.read(1 << 20)


async def test_a_server_behind_a_path_with_a_password() -> None:
    heads: list[bytes] = []
    async with (
        listening(answering(OK, heads=heads)) as port,
        http_to(f"http://ann:s%40cret@127.0.0.1:{port}/k8s/clusters/c 1/") as http,
    ):
        assert await read(http) == b"ok"
    first, *lines = heads[0].decode().split("\r\n")
    assert first == "GET /k8s/clusters/c%201/version HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines and "Authorization: Basic YW5uOnNAY3JldA==" in lines


@pytest.mark.parametrize(
    "wrong",
    [
        "https://",
        "gpu.example.com",
        "ftp://gpu",
        "https://gpu:port",
        "https://[::1",
        "https://[x]",
        "http://ü..de",
    ],
)
def test_what_is_no_address(wrong: str) -> None:
    with pytest.raises(errors.UsageError, match="can't connect to"):
        ClusterEndpoint(Connection(wrong))


async def test_a_name_that_no_server_can_have() -> None:
    async with http_to(f"http://{'a' * 64}.example.com") as http:
        with pytest.raises(errors.ConnectionFailed, match="no host can have that name"):
            await read(http)


async def test_a_name_with_several_addresses_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def both(*asked: object, **options: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    async with http_to(f"http://gpu.example.com:{port}") as http:
        with pytest.raises(errors.ConnectionFailed, match="nothing listens there"):
            await read(http)


async def test_answers_that_come_packed() -> None:
    packed = gzip.compress(b"a long list " * 10_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
    length = b"Content-Length: %d\r\n\r\n"
    async with (
        listening(answering(head + length % len(packed) + packed)) as port,
        http_to(f"http://127.0.0.1:{port}") as http,
    ):
        assert [await read(http), await read(http)] == [b"a long list " * 10_000] * 2
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (5, packed[:5])
    rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed) - 5, packed[5:])
    async with (
        listening(answering(head + chunked, rest)) as port,
        http_to(f"http://127.0.0.1:{port}") as http,
    ):
        assert await read(http) == b"a long list " * 10_000


@pytest.mark.parametrize(
    ("body", "said"),
    [(gzip.compress(b"x" * 99, mtime=0)[:-9], "cut the connection"), (b"plain", "isn't gzip")],
)
async def test_what_is_not_packed_whole(body: bytes, said: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with listening(answering(head + body)) as port, http_to(f"http://127.0.0.1:{port}") as http:
        with pytest.raises(errors.ConnectionFailed, match=said):
            await read(http)


async def test_what_is_said_before_an_answer_is_none() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    nothing = b"HTTP/1.1 204 No Content\r\n\r\n"
    ports: set[int] = set()
    async with (
        listening(answering(hints, nothing, ports=ports)) as port,
        http_to(f"http://127.0.0.1:{port}") as http,
    ):
        assert [await read(http), await read(http)] == [b"", b""]
    assert len(ports) == 1


@pytest.mark.parametrize(("keep_s", "connections"), [(60.0, 1), (-1.0, 2)])
async def test_a_connection_that_waited_long_is_not_used_again(
    keep_s: float, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_endpoint, "_KEEP_S", keep_s)
    ports: set[int] = set()
    async with listening(answering(OK, ports=ports)) as port, http_to(f"http://127.0.0.1:{port}") as http:
        assert [await read(http), await read(http)] == [b"ok", b"ok"]
    assert len(ports) == connections


@pytest.mark.parametrize("is_answered_at_once", [True, False])
async def test_another_protocol_over_tls(tmp_path: Path, is_answered_at_once: bool) -> None:
    pki = Pki(tmp_path)
    pki.ensure(datetime.now(UTC))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.server_certificate, pki.server_key)
    many = bytes(range(256)) * 20_000

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nhello")
        if not is_answered_at_once:
            writer.write(await reader.readexactly(len(many)))
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()

    trusting = ssl.create_default_context(cafile=str(pki.ca_certificate))
    async with listening(echo, tls) as port, http_to(f"https://127.0.0.1:{port}", trusting) as http:
        request = ClientRequest("GET", "/exec", upgrade={"Connection": "Upgrade", "Upgrade": "echo"})
        async with http.send(request) as answer:
            assert answer.status == 101 and answer.wire
            writing = asyncio.ensure_future(_write(answer.wire, many))
            if not is_answered_at_once:
                await writing
            came = b""
            while len(came) < len(b"hello") + len(many):
                came += await answer.wire.read(1 << 18)
            await writing
    assert came == b"hello" + many


async def _write(wire: Wire, data: bytes) -> None:
    for at in range(0, len(data), 1 << 18):
        await wire.write(data[at : at + (1 << 18)])
