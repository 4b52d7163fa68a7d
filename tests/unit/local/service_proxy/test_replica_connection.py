"""What replicas may do, and what becomes of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.local.service_proxy.conftest import OK, Backend, Proxy, read_request, running_proxy
from tests.waiting import until_async


def _once(answer: bytes) -> object:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return behave


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (600 << 10),
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_what_is_no_answer_becomes_a_502(answer: bytes, backend: Backend, proxy: Proxy) -> None:
    proxy.ready(await backend.start(_once(answer)))  # type: ignore[arg-type]
    client = await proxy.connect()
    got = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
    assert got.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"replica replica gave no answer" in got
    assert proxy.figures.answers == {"replica": {"5xx": 1}}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ],
)
async def test_half_an_answer_is_never_taken_for_a_whole_one(
    answer: bytes, backend: Backend, proxy: Proxy
) -> None:
    proxy.ready(await backend.start(_once(answer)))  # type: ignore[arg-type]
    client = await proxy.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await client.head()
    body = await client.rest()
    assert b"half" in body
    if b"chunked" in head:
        assert not body.endswith(b"0\r\n\r\n")
    else:
        assert len(body) < 10


@pytest.mark.parametrize("trailer", [b"T: u\r\n", b"x"])
async def test_trailers_without_end_cut_the_answer(trailer: bytes, backend: Backend, proxy: Proxy) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n")
        while True:
            writer.write(trailer * (16384 // len(trailer)))
            await writer.drain()

    proxy.ready(await backend.start(endless))
    client = await proxy.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await client.head()
    assert await client.rest() == b"4\r\nhalf\r\n"


@pytest.mark.parametrize("head", [b"Connection: upgrade\r\nUpgrade: x\r\n", b""])
async def test_a_connection_that_agrees_to_what_nobody_asked_is_closed(
    head: bytes, backend: Backend, proxy: Proxy
) -> None:
    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % head)
        with suppress(ConnectionError):
            await reader.read()
        closed.append(writer)

    closed: list[asyncio.StreamWriter] = []
    replica = await backend.start(agree)
    proxy.ready(replica)
    assert (await proxy.ask()).startswith(b"HTTP/1.1 502 ")
    await until_async(lambda: closed == replica.writers, "every attempt's connection is closed")


async def test_an_answer_that_ends_with_the_connection_gets_an_end_of_its_own(
    backend: Backend, proxy: Proxy
) -> None:
    proxy.ready(await backend.start(_once(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nall")))  # type: ignore[arg-type]
    client = await proxy.connect()
    got = await client.ask()
    assert got == b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n"
    await client.ask()  # the client's connection is still good


@pytest.mark.parametrize(
    ("method", "head", "connections"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 1),
        # Such a body would end with its connection.
        (b"HEAD", b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", 3),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", 1),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 1),
    ],
)
async def test_answers_without_a_body_leave_the_connections_good(
    method: bytes, head: bytes, connections: int, backend: Backend, proxy: Proxy
) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_request(reader):
            writer.write(OK if b"POST" in request else head)

    replica = await backend.start(behave)
    proxy.ready(replica)
    client = await proxy.connect()
    for _ in range(2):
        client.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.head() == head
        assert await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi") == OK
    assert len(replica.writers) == connections


async def test_bytes_behind_an_answer_reach_nobody(backend: Backend, proxy: Proxy) -> None:
    replica = await backend.answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
    proxy.ready(replica)
    client = await proxy.connect()
    assert await client.ask() == OK
    assert await client.ask() == OK
    assert len(replica.writers) == 2  # it wasn't used again


async def test_an_early_answer_arrives_though_the_rest_of_the_body_is_not_wanted(
    backend: Backend, proxy: Proxy
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")

    proxy.ready(await backend.start(refuse))
    client = await proxy.connect()
    body = b"x" * (8 << 20)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert (await client.answer()).endswith(b"big")
    proxy.ready(await backend.answering())
    assert await client.ask() == OK  # the rest went nowhere, and the next request is understood


async def test_answers_in_between_reach_the_client(backend: Backend, proxy: Proxy) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect: 100-continue" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(2) == b"hi"
        writer.write(OK)

    proxy.ready(await backend.start(behave))
    client = await proxy.connect()
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await client.ask(b"hi") == OK


async def test_events_arrive_one_by_one(backend: Backend, proxy: Proxy) -> None:
    more = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await more.wait()
        writer.write(b"data: 2\n\n")

    proxy.ready(await backend.start(events))
    client = await proxy.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"data: 2" not in await client.reader.readuntil(b"data: 1\n\n\r\n")
    more.set()
    assert b"data: 1" not in await client.reader.readuntil(b"data: 2\n\n\r\n0\r\n\r\n")


async def test_large_bodies_pass_in_bounded_memory(backend: Backend, proxy: Proxy) -> None:
    import tracemalloc

    size = 100 << 20

    async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            data = await reader.read(1 << 16)
            left -= len(data)
            writer.write(data)
            await writer.drain()

    async def upload() -> None:
        for _ in range(size >> 16):
            client.send(bytes(1 << 16))
            await client.writer.drain()

    proxy.ready(await backend.start(mirror))
    client = await proxy.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    tracemalloc.start()
    try:
        sending = asyncio.create_task(upload())
        await client.head()
        left = size
        while left:
            left -= len(await client.reader.read(1 << 16))
        await sending
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # both ends of the test included
    finally:
        tracemalloc.stop()


async def test_a_replica_that_never_reads_stops_its_client(backend: Backend, proxy: Proxy) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await go_on.wait()
        while await reader.read(1 << 20):
            pass

    proxy.ready(await backend.start(behave))
    client = await proxy.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
    await begun.wait()
    client.send(bytes(64 << 20))
    connection = next(iter(proxy.proxy._connections))
    await until_async(lambda: not connection.transport.is_reading(), "the proxy reads no further")
    assert client.writer.transport.get_write_buffer_size() > 0
    go_on.set()


async def test_other_protocols_pass_both_ways(backend: Backend, proxy: Proxy) -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n")
        writer.write(b"Sec-WebSocket-Accept: x\r\n\r\nfirst")
        while data := await reader.read(1024):
            writer.write(data.upper())
        writer.write(b"last")

    replica = await backend.start(upgrade)
    proxy.ready(replica)
    client = await proxy.connect()
    client.send(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly"
    )
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: x\r\n" in head
    assert await client.reader.readexactly(10) == b"firstEARLY"
    proxy.ready()  # its replica leaves the endpoints, which ends nothing
    client.send(b"more")
    assert await client.reader.readexactly(4) == b"MORE"
    assert proxy.figures.in_flight == 1
    client.writer.write_eof()
    assert await client.rest() == b"last"
    await until_async(lambda: proxy.figures.in_flight == 0, "the tunnel has ended")
    assert proxy.figures.answers == {"replica": {"1xx": 1}}


async def test_a_replica_that_does_not_upgrade_answers_as_ever(backend: Backend, proxy: Proxy) -> None:
    replica = await backend.answering()
    proxy.ready(replica)
    client = await proxy.connect()
    for protocol in (b"websocket", b"h2c"):
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol
        client.send(request + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.answer() == OK
        assert await client.answer() == OK
    assert [b"Upgrade:" in request for request in replica.requests] == [True, False, False, False]


_ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 Good day\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x\r\nab\r\n3\r\ncde\r\n0\r\nT: u\r\n\r\n"
)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, len(_ANSWER) - 1), max_size=12, unique=True))
def test_however_the_bytes_of_an_answer_are_cut_they_mean_the_same(cuts: list[int]) -> None:
    asyncio.run(_expect_answer_in_pieces(sorted(cuts)))


async def _expect_answer_in_pieces(cuts: list[int]) -> None:
    from contextlib import AsyncExitStack

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            for begin, end in zip([0, *cuts], [*cuts, len(_ANSWER)], strict=True):
                writer.write(_ANSWER[begin:end])
                await writer.drain()
                await asyncio.sleep(0)

    async with AsyncExitStack() as stack, running_proxy() as proxy:
        proxy.ready(await Backend(stack).start(behave))
        client = await proxy.connect()
        for _ in range(2):
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            head = await client.head()
            assert head == b"HTTP/1.1 200 Good day\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
            body = b""
            while (size := int(await client.reader.readline(), 16)) or not await client.reader.readline():
                body += (await client.reader.readexactly(size + 2))[:-2]
            assert body == b"abcde"
