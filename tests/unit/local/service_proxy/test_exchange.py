"""Which requests are repeated, which wait, and what they get."""

from __future__ import annotations

import asyncio

import pytest

from gpuyard.local.service_proxy.endpoints import ServiceReplica
from tests.unit.local.service_proxy.conftest import (
    OK,
    Backend,
    FakeReplica,
    Proxy,
    closed_port,
    read_request,
    running_proxy,
)
from tests.waiting import until_async

_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


async def _closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)


async def test_a_refused_connection_goes_to_another_replica(backend: Backend, proxy: Proxy) -> None:
    good = await backend.answering()
    proxy.proxy.set_ready([ServiceReplica("a-gone", "127.0.0.1", closed_port()), good.replica])
    for _ in range(3):
        assert await proxy.ask(_POST) == OK


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("a" * 64, 80)])
async def test_a_replica_that_cannot_be_reached_by_any_means_is_one_that_refuses(
    host: str, port: int, backend: Backend, proxy: Proxy
) -> None:
    good = await backend.answering(name="good")
    proxy.proxy.set_ready([ServiceReplica("bad", host, port), good.replica])
    for _ in range(3):
        assert await proxy.ask(_POST) == OK


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"OPTIONS", b"HEAD"])
async def test_a_request_that_may_be_repeated_is(method: bytes, backend: Backend, proxy: Proxy) -> None:
    good = await backend.answering(OK[:-2] if method == b"HEAD" else OK, "b")
    proxy.ready(await backend.start(_closes, "a"), good)
    client = await proxy.connect()
    client.send(_POST.replace(b"POST", method))
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    (request,) = good.requests
    assert request.endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize("method", [b"POST", b"PATCH"])
async def test_a_request_that_may_not_be_repeated_is_not(
    method: bytes, backend: Backend, proxy: Proxy
) -> None:
    good = await backend.answering(name="b")
    proxy.ready(await backend.start(_closes, "a"), good)
    assert (await proxy.ask(_POST.replace(b"POST", method))).startswith(b"HTTP/1.1 502 ")
    assert good.requests == []


async def test_a_request_is_not_repeated_without_end(backend: Backend, proxy: Proxy) -> None:
    bad = await backend.start(_closes)
    proxy.ready(bad)
    assert (await proxy.ask(_GET)).startswith(b"HTTP/1.1 502 ")
    assert len(bad.writers) == 3


async def test_a_body_too_long_to_keep_is_not_repeated(backend: Backend, proxy: Proxy) -> None:
    async def reads_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100 << 10)

    good = await backend.answering(name="b")
    proxy.ready(await backend.start(reads_much, "a"), good)
    size = 200 << 10
    answer = await proxy.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert good.requests == []


async def test_a_kept_connection_that_the_replica_closed_costs_no_request(
    backend: Backend, proxy: Proxy
) -> None:
    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)  # and closes, though it said nothing of that

    proxy.ready(await backend.start(one_each))
    client = await proxy.connect()
    for _ in range(20):
        assert await client.ask(_POST) == OK


async def test_requests_wait_for_the_first_replica(backend: Backend, proxy: Proxy) -> None:
    clients = [await proxy.connect() for _ in range(20)]
    for client in clients:
        client.send(_POST)
    await until_async(lambda: proxy.proxy.replicas.waiting == 20, "they wait")
    assert proxy.figures.in_flight == 20
    proxy.ready(await backend.answering())
    assert {await client.answer() for client in clients} == {OK}
    assert proxy.figures.in_flight == proxy.proxy.replicas.waiting == 0


async def test_requests_wait_while_every_replica_refuses(backend: Backend, proxy: Proxy) -> None:
    port = closed_port()
    proxy.proxy.set_ready([ServiceReplica("a", "127.0.0.1", port)])
    client = await proxy.connect()
    client.send(_POST)
    await until_async(lambda: proxy.proxy.replicas.waiting, "it waits")
    replica = FakeReplica(_closes)
    server = await asyncio.start_server((await backend.answering()).accept, "127.0.0.1", port)
    replica.server = server
    assert await client.answer() == OK
    server.close()


async def test_waiting_has_an_end(backend: Backend) -> None:
    async with running_proxy(hold_s=0.0) as proxy:
        answer = await proxy.ask(_GET)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 5\r\n" in answer
        assert answer.count(b"\n", answer.index(b"\r\n\r\n") + 4) == 1  # one sentence
        assert proxy.figures.answers == {"": {"5xx": 1}}


async def test_only_so_many_requests_wait(backend: Backend) -> None:
    async with running_proxy(held=2) as proxy:
        waiting = [await proxy.connect() for _ in range(2)]
        for client in waiting:
            client.send(_GET)
        await until_async(lambda: proxy.proxy.replicas.waiting == 2, "they wait")
        assert (await proxy.ask(_GET)).startswith(b"HTTP/1.1 503 ")
        proxy.ready(await backend.answering())
        assert [await client.answer() for client in waiting] == [OK, OK]


async def test_only_so_many_bytes_wait(backend: Backend) -> None:
    async with running_proxy(held_bytes=100 << 10, kept_body_bytes=32 << 10) as proxy:
        clients = [await proxy.connect() for _ in range(4)]
        size = 8 << 20
        for client in clients:
            client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        connections = proxy.proxy._connections
        await until_async(
            lambda: all(not one.transport.is_reading() or not one._exchanges for one in connections),
            "nothing more is read",
        )
        assert proxy.proxy.replicas._waiting_bytes < 2 << 20
        proxy.ready(await backend.answering())
        answers = [await client.answer() for client in clients]
        assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        assert OK in answers
        assert proxy.proxy.replicas._waiting_bytes == 0


async def test_each_request_goes_to_the_replica_with_the_fewest(backend: Backend, proxy: Proxy) -> None:
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await go_on.wait()
        writer.write(OK)

    replicas = [await backend.start(slow, name) for name in "abc"]
    proxy.ready(*replicas)
    clients = [await proxy.connect() for _ in range(9)]
    for client in clients:
        client.send(_GET)
    await until_async(
        lambda: list(proxy.proxy.replicas.in_flight.values()) == [3, 3, 3], "each replica has three"
    )
    go_on.set()
    assert {await client.answer() for client in clients} == {OK}
    assert not any(proxy.proxy.replicas.in_flight.values())


async def test_a_replica_that_leaves_gets_no_new_request_and_finishes_what_it_has(
    backend: Backend, proxy: Proxy
) -> None:
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            await go_on.wait()
            writer.write(OK)

    old, new = await backend.start(slow, "old"), await backend.answering(name="new")
    proxy.ready(old)
    first = await proxy.connect()
    first.send(_POST)
    await until_async(lambda: old.writers, "the old one has it")
    proxy.ready(new)
    for _ in range(5):
        assert await proxy.ask() == OK
    assert len(old.writers) == 1
    go_on.set()
    assert await first.answer() == OK
    assert proxy.figures.answers == {"new": {"2xx": 5}, "old": {"2xx": 1}}


async def test_kept_connections_to_a_replica_that_left_are_closed(backend: Backend, proxy: Proxy) -> None:
    closed = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await reader.read()
        closed.set()

    proxy.ready(await backend.start(behave))
    assert await proxy.ask() == OK
    proxy.ready()
    await closed.wait()


async def test_a_proxy_that_ends_finishes_what_is_under_way(backend: Backend) -> None:
    go_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await go_on.wait()
        writer.write(OK)

    async with running_proxy(drain_s=30.0) as proxy:
        replica = await backend.start(slow)
        proxy.ready(replica)
        idle, busy = await proxy.connect(), await proxy.connect()
        busy.send(_POST)
        await until_async(lambda: replica.writers, "the replica has it")
        closing = asyncio.create_task(proxy.proxy.close())
        assert await idle.rest() == b""
        go_on.set()
        assert (await busy.rest()).endswith(b"\r\nConnection: close\r\n\r\nok")
        await closing


async def test_a_proxy_that_ends_refuses_what_waits_at_once(backend: Backend) -> None:
    async with running_proxy(drain_s=600.0) as proxy:
        waiting, reading = await proxy.connect(), await proxy.connect()
        waiting.send(_POST * 2)
        reading.send(_GET[:-2])
        await until_async(lambda: proxy.proxy.replicas.waiting, "one waits")
        await until_async(lambda: any(one._in_head for one in proxy.proxy._connections), "one is read")
        closing = asyncio.create_task(proxy.proxy.close())
        answers = await waiting.rest()
        assert answers.count(b"HTTP/1.1 503 ") == 2
        assert answers.count(b"\r\nRetry-After: 5\r\n") == 2
        assert b"\nthis address of the service ends" in answers
        reading.send(b"\r\n")
        assert (await reading.rest()).startswith(b"HTTP/1.1 503 ")
        await closing


async def test_a_proxy_that_ends_waits_for_no_one_for_ever(backend: Backend) -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with running_proxy(drain_s=0.05) as proxy:
        proxy.ready(await backend.start(hangs))
        client = await proxy.connect()
        client.send(_POST)
        await until_async(lambda: proxy.figures.in_flight, "it is under way")
        await proxy.proxy.close()
        assert await client.rest() == b""
