from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.kubelet.probing.answer import ProbeResult
from gpuyard.local.kubelet.probing.http_get import HttpGet

SUCCESS, WARNING, FAILURE, UNKNOWN = ProbeResult
_Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _serving(handler: _Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def _saying(*answers: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answers one request after another; also gives the requests."""
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answers[min(len(requests), len(answers)) - 1])
        await writer.drain()

    async with _serving(handle) as port:
        yield port, requests


def _get(port: int, **raw: Any) -> HttpGet:
    return HttpGet.parse({"path": "/healthz", "scheme": "HTTP", **raw}, "127.0.0.1", port)


def _status(line: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "", body]).encode()


@pytest.mark.parametrize(
    ("answer", "result", "text"),
    [
        (_status("200 OK", "Content-Length: 4", body="fine"), SUCCESS, "fine"),
        (_status("204 No Content"), SUCCESS, ""),
        (_status("204 No Content", body="what comes after it"), SUCCESS, ""),
        (_status("200 OK", body="until the end"), SUCCESS, "until the end"),
        (
            _status("200 OK", "Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n"),
            SUCCESS,
            "abc",
        ),
        (_status("103 Early Hints") + _status("200 OK", "Content-Length: 1", body="x"), SUCCESS, "x"),
        (_status("500 No", body="secret"), FAILURE, "HTTP probe failed with statuscode: 500"),
        (_status("404 Not Found"), FAILURE, "HTTP probe failed with statuscode: 404"),
        (_status("304 Not Modified"), WARNING, "Probe terminated redirects, Response body: "),
        (
            _status("302 Found", "Location: http://elsewhere.invalid/", body="there"),
            WARNING,
            "Probe terminated redirects, Response body: there",
        ),
    ],
)
async def test_answers(answer: bytes, result: ProbeResult, text: str) -> None:
    async with _saying(answer) as (port, _):
        found = await _get(port).ask(10)
    assert (found.result, found.text) == (result, text)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "EOF"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed HTTP response"),
        (_status("302 Found", "Location: http://127.0.0.1:nonsense/"), "failed to parse Location"),
        (_status("302 Found", "Location: ftp://127.0.0.1/"), 'unsupported protocol scheme "ftp"'),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (3 << 20), "server response headers exceeded 1048576 bytes"),
    ],
)
async def test_what_is_no_answer(answer: bytes, text: str) -> None:
    async with _saying(answer) as (port, _):
        found = await _get(port).ask(10)
    assert found.result is FAILURE
    assert found.text.startswith(f'Get "http://127.0.0.1:{port}/healthz": ')
    assert text in found.text


async def test_redirects_on_its_own_host_are_followed_and_not_for_ever() -> None:
    async with _saying(_status("302 Found", "Location: /b"), _status("200 OK", body="b")) as (port, requests):
        assert (await _get(port).ask(10)).text == "b"
    assert [request.split()[1] for request in requests] == [b"/healthz", b"/b"]
    async with _saying(_status("302 Found", "Location: /healthz")) as (port, requests):
        assert (await _get(port).ask(10)).text.endswith("stopped after 10 redirects")
    assert len(requests) == 10


async def test_the_request() -> None:
    headers = [{"name": "Host", "value": "example.com"}, {"name": "X-Test", "value": "1"}]
    async with _saying(_status("200 OK")) as (port, requests):
        await _get(port, path="a b?c=d#e", httpHeaders=headers).ask(10)
    lines = requests[0].decode().split("\r\n")
    assert lines[0] == "GET /a%20b?c=d HTTP/1.1"
    assert {"Host: example.com", "X-Test: 1", "Accept: */*", "Connection: close"} <= set(lines)
    assert any(line.startswith("User-Agent: kube-probe/") for line in lines)
    assert sum(line.lower().startswith("host:") for line in lines) == 1


async def test_a_header_may_not_smuggle_another_in() -> None:
    async with _saying(_status("200 OK")) as (port, requests):
        found = await _get(port, httpHeaders=[{"name": "X", "value": "1\r\nY: 2"}]).ask(10)
    assert (found.result, requests) == (FAILURE, [])
    assert found.text.endswith('net/http: invalid header field value for "X"')


async def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        found = await _get(port).ask(10)
    dialled = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert (found.result, found.text) == (FAILURE, f'Get "http://127.0.0.1:{port}/healthz": {dialled}')


async def test_a_program_that_hangs_is_given_up() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with _serving(hang) as port:
        found = await _get(port).ask(0.05)
    assert found.result is FAILURE
    assert found.text.endswith("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")


async def test_a_body_that_never_ends_is_read_so_far() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_status("200 OK"))
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()

    async with _serving(pour) as port:
        found = await _get(port).ask(60)
    assert (found.result, len(found.text)) == (SUCCESS, 10 << 10)


async def test_a_body_that_comes_too_slowly_says_nothing() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_status("200 OK", body="x"))
        await writer.drain()
        await reader.read()
        await reader.read()

    async with _serving(drip) as port:
        found = await _get(port).ask(0.2)
    assert found.result is UNKNOWN
    assert found.succeeded is None


async def test_https_to_a_server_without() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_status("400 Bad Request"))
        await writer.drain()

    async with _serving(refuse) as port:
        found = await _get(port, scheme="HTTPS").ask(10)
    assert found.result is FAILURE
    assert found.text.startswith(f'Get "https://127.0.0.1:{port}/healthz": ')


async def test_https_with_whatever_certificate(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_status("200 OK", "Content-Length: 4", body="safe"))
        await writer.drain()

    pki = Pki(tmp_path)
    pki.ensure(datetime.now(UTC))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.server_certificate, pki.server_key)
    async with _serving(answer, tls) as port:
        found = await _get(port, scheme="HTTPS").ask(30)
    assert (found.result, found.text) == (SUCCESS, "safe")


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("a..b", 'Get "http://a..b:80/healthz": dial tcp: lookup a..b: no such host'),
        ("[x", 'Get "http://[x:80/healthz": parse "http://[x:80/healthz": Invalid IPv6 URL'),
    ],
)
async def test_a_host_that_is_none(host: str, text: str) -> None:
    answer = await HttpGet.parse({"path": "/healthz", "scheme": "HTTP"}, host, 80).ask(10)
    assert (answer.result, answer.text) == (FAILURE, text)
