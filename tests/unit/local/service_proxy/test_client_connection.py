"""What clients may do, and what they get."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.local.service_proxy.conftest import OK, Backend, Proxy, read_request, running_proxy
from tests.waiting import until_async

_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_connection_carries_requests_one_after_another(backend: Backend, proxy: Proxy) -> None:
    replica = await backend.answering()
    proxy.ready(replica)
    client = await proxy.connect()
    for _ in range(3):
        assert await client.ask() == OK
    assert len(replica.writers) == 1  # the connection to the replica was kept, too


async def test_pipelined_requests_are_answered_in_order(backend: Backend, proxy: Proxy) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            path = request.split()[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    proxy.ready(await backend.start(echo))
    client = await proxy.connect()
    paths = [b"/%d" % number for number in range(10)]
    client.send(
        b"".join(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" % path for path in paths)
    )
    assert [(await client.answer()).split(b"\r\n\r\n")[1] for _ in paths] == paths


async def test_more_pipelined_requests_than_may_be_are_left_unread(backend: Backend, proxy: Proxy) -> None:
    replica = await backend.answering()
    proxy.ready(replica)
    client = await proxy.connect()
    client.send(_GET * 5000)
    answers = await client.rest()
    assert answers.count(b"200 OK") == len(replica.requests) == 16


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_two_readers_may_understand_differently_is_refused(
    request_bytes: bytes, backend: Backend, proxy: Proxy
) -> None:
    replica = await backend.answering()
    proxy.ready(replica)
    client = await proxy.connect()
    client.send(request_bytes)
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    assert replica.requests == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", b"501"),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"501"),
        (b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", b"405"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (70 << 10) + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (300 << 10), b"431"),
    ],
)
async def test_what_cannot_go_on_is_refused_with_its_own_status(
    request_bytes: bytes, status: bytes, backend: Backend, proxy: Proxy
) -> None:
    replica = await backend.answering()
    proxy.ready(replica)
    client = await proxy.connect()
    client.send(request_bytes)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 %b " % status)
    assert b"Connection: close\r\n" in answer
    assert replica.requests == []


async def test_a_refusal_waits_for_the_answers_before_it(backend: Backend, proxy: Proxy) -> None:
    proxy.ready(await backend.answering())
    client = await proxy.connect()
    client.send(_GET + b"nonsense\r\n\r\n")
    answers = await client.rest()
    assert answers.startswith(OK + b"HTTP/1.1 400 ")


async def test_a_broken_chunk_ends_a_request_that_is_under_way(backend: Backend, proxy: Proxy) -> None:
    async def slurp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"abc\r\n"))
        seen.append(await reader.read())

    seen: list[bytes] = []
    proxy.ready(await backend.start(slurp))
    client = await proxy.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await until_async(lambda: seen, "the replica has the first chunk")
    client.send(b"zz\r\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    await until_async(lambda: len(seen) == 2, "its connection to the replica ends")
    assert not seen[1]  # no last chunk


@pytest.mark.parametrize("trailer", [b"T: u\r\n", b"x"])
async def test_trailers_without_end_are_refused(trailer: bytes, backend: Backend, proxy: Proxy) -> None:
    proxy.ready(await backend.start(_reads_on))
    client = await proxy.connect()
    client.send(_CHUNKED_POST + b"3\r\nabc\r\n0\r\n")
    with suppress(ConnectionError):  # it reads no further: the client notices
        for _ in range(64):
            client.send(trailer * (16384 // len(trailer)))
            await client.writer.drain()
    assert b"HTTP/1.1 431 " in await client.rest()
    assert proxy.figures.answers == {"replica": {"4xx": 1}}


async def test_trailers_without_end_behind_an_answer_end_the_connection(
    backend: Backend, proxy: Proxy
) -> None:
    async def answers_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"abc\r\n")
        writer.write(OK)

    proxy.ready(await backend.start(answers_early))
    client = await proxy.connect()
    assert await client.ask(_CHUNKED_POST + b"3\r\nabc\r\n") == OK
    client.send(b"0\r\n" + b"x" * (1 << 20))
    assert await client.rest() == b""


async def test_a_long_body_in_small_chunks_is_no_long_head(backend: Backend, proxy: Proxy) -> None:
    replica = await backend.answering()
    proxy.ready(replica)
    body = b"1\r\nx\r\n" * (64 << 10) + b"0\r\n\r\n"
    assert await proxy.ask(_CHUNKED_POST + body) == OK
    assert replica.requests[0].endswith(b"\r\n1\r\nx\r\n0\r\n\r\n")


async def _reads_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def test_a_connection_ends_with_its_answer_where_the_client_says_so(
    backend: Backend, proxy: Proxy
) -> None:
    proxy.ready(await backend.answering())
    client = await proxy.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + _GET)
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body == b"ok"


async def test_a_client_of_http_1_0_gets_no_chunks(backend: Backend, proxy: Proxy) -> None:
    proxy.ready(
        await backend.answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    )
    client = await proxy.connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert await client.rest() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"


async def test_a_head_that_takes_too_long_is_refused(backend: Backend) -> None:
    async with running_proxy(head_s=0.0) as proxy:
        client = await proxy.connect()
        client.send(b"GET / HTTP/1.1\r\nX: ")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_takes_too_long_is_refused(backend: Backend) -> None:
    async with running_proxy(body_s=0.0) as proxy:
        client = await proxy.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_closed(backend: Backend) -> None:
    async with running_proxy(idle_s=0.0) as proxy:
        proxy.ready(await backend.answering())
        client = await proxy.connect()
        assert await client.ask() == OK
        assert await client.rest() == b""


async def test_slow_clients_by_the_hundred_stop_nobody(backend: Backend, proxy: Proxy) -> None:
    proxy.ready(await backend.answering())
    slow = [await proxy.connect() for _ in range(300)]
    for client in slow:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na")
    assert await proxy.ask() == OK
    for client in slow:
        client.send(b"bcde")
    assert {await client.answer() for client in slow} == {OK}


async def test_more_connections_than_may_be_are_turned_away(backend: Backend) -> None:
    async with running_proxy(connections=1) as proxy:
        proxy.ready(await backend.answering())
        first = await proxy.connect()
        assert await first.ask() == OK
        second = await proxy.connect()
        assert (await second.rest()).startswith(b"HTTP/1.1 503 ")
        first.writer.close()
        await until_async(lambda: _answers(proxy), "there is a place again")


async def _answers(proxy: Proxy) -> bool:
    client = await proxy.connect()
    client.send(_GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    return b"200 OK" in await client.rest()


async def test_a_client_that_never_reads_stops_its_replica_and_is_given_up(backend: Backend) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with running_proxy(unread_s=0.0) as proxy:
        proxy.ready(await backend.start(endless))
        with socket.create_connection(("127.0.0.1", proxy.port)) as deaf:
            deaf.sendall(_GET)
            await until_async(lambda: proxy.figures.in_flight == 0 and sent, "the client is given up")
        assert sent < 64 << 20  # what kernels buffer, and little more


async def test_a_client_that_leaves_ends_its_request(backend: Backend, proxy: Proxy) -> None:
    left = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        came.set()
        await reader.read()
        left.set()

    came = asyncio.Event()
    proxy.ready(await backend.start(wait))
    client = await proxy.connect()
    client.send(_GET)
    await came.wait()
    client.writer.close()
    await left.wait()
    assert proxy.figures.in_flight == 0
    assert proxy.figures.answers == {"replica": {"4xx": 1}}


async def test_a_client_that_resets_its_connection_leaves_nothing_behind(
    backend: Backend, proxy: Proxy
) -> None:
    client = await proxy.connect()
    client.send(_GET)  # no replica is ready
    await until_async(lambda: proxy.proxy.replicas.waiting == 1, "it waits")
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()
    await until_async(lambda: proxy.proxy.replicas.waiting == 0, "it waits no more")
    assert proxy.figures.in_flight == 0


_REQUESTS = (
    b"GET /1 HTTP/1.1\r\nHost: a\r\nX-Note: b\r\n\r\n"
    b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    b"PUT /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\nab\r\n3\r\ncde\r\n0\r\nT: u\r\n\r\n"
    b"HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n"
    b"GET /5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(_REQUESTS) - 1), max_size=12, unique=True))
def test_however_the_bytes_of_requests_are_cut_they_mean_the_same(cuts: list[int]) -> None:
    asyncio.run(_expect_answers_to_pieces(sorted(cuts)))


async def _expect_answers_to_pieces(cuts: list[int]) -> None:
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack, running_proxy() as proxy:
        seen: list[tuple[bytes, bytes]] = []

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while request := await read_request(reader):
                head, _, body = request.partition(b"\r\n\r\n")
                if b"chunked" in head:
                    body = b"".join(body.split(b"\r\n")[1:-3:2])
                seen.append((head.split(b" HTTP")[0], body))
                length = b"Content-Length: 5\r\n\r\n"
                writer.write(b"HTTP/1.1 200 OK\r\n" + length + (b"" if head[:4] == b"HEAD" else b"hello"))

        proxy.ready(await Backend(stack).start(echo))
        client = await proxy.connect()
        for begin, end in zip([0, *cuts], [*cuts, len(_REQUESTS)], strict=True):
            client.send(_REQUESTS[begin:end])
            await client.writer.drain()
            await asyncio.sleep(0)
        answers = await client.rest()
        assert seen == [
            (b"GET /1", b""),
            (b"POST /2", b"hello"),
            (b"PUT /3", b"abcde"),
            (b"HEAD /4", b""),
            (b"GET /5", b""),
        ]
        assert answers.count(b"200 OK") == 5
        assert answers.count(b"hello") == 4
