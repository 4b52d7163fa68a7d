"""The HTTP client, against a server on a real socket that says what each test needs."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import CONFIG_MAPS, PODS


class Server:
    """Answers each request with the next of its answers, and closes; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.asked: list[str] = []

    def says(self, body: object, status: int = 200, headers: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nConnection: close\r\n{headers}\r\n"
        self.answers.append(head.encode() + content)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?i)content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.asked.append(f"{head.split(' HTTP/1.1')[0]} {body.decode()}".strip())
        writer.write(self.answers.pop(0))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Server, RestApi]]:
    server = Server()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder) / "api"
        async with (
            await asyncio.start_unix_server(server.handle, socket),
            RestApi(unix_socket=socket) as api,
        ):
            yield server, api


@pytest.fixture
async def both() -> AsyncIterator[tuple[Server, RestApi]]:
    async with listening() as found:
        yield found


Both = tuple[Server, RestApi]


async def test_a_list_of_several_pages(both: Both) -> None:
    server, api = both
    server.says({"metadata": {"continue": "on"}, "items": [{"metadata": {"name": "a"}}]})
    server.says({"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]})
    listed = await api.list(CONFIG_MAPS, "n", label_selector="x=y")
    assert [item["metadata"]["name"] for item in listed.items] == ["a", "b"]
    assert (listed.items[0]["kind"], listed.items[0]["apiVersion"]) == ("ConfigMap", "v1")
    assert listed.resource_version == "7"
    path = "GET /api/v1/namespaces/n/configmaps?labelSelector=x%3Dy&limit=500"
    assert server.asked == [path, f"{path}&continue=on"]


@pytest.mark.parametrize("page", [{"items": [1]}, {"items": 5}, {"items": [], "metadata": 5}])
async def test_what_is_no_list(both: Both, page: dict[str, Any]) -> None:
    server, api = both
    server.says(page)
    with pytest.raises(errors.ConnectionFailed, match="sends what is no list"):
        await api.list(PODS, "n")


async def test_a_list_that_does_not_go_on(both: Both) -> None:
    server, api = both
    for _ in range(2):
        server.says({"items": [], "metadata": {"continue": "x"}})
    assert (await api.list(PODS, "n")).items == []


async def test_a_delete_says_how(both: Both) -> None:
    server, api = both
    server.says({})
    await api.delete(PODS, "p", "n", grace_period_s=0, uid="u")
    method, path, body = server.asked[0].split(" ", 2)
    assert (method, path) == ("DELETE", "/api/v1/namespaces/n/pods/p")
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
    assert json.loads(body) == options | {"preconditions": {"uid": "u"}}


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        ({"message": 'pods "p" not found', "reason": "NotFound"}, 404, errors.NotFound, "not found"),
        ({"message": "changed", "reason": "Conflict"}, 409, errors.Conflict, "changed"),
        (b"<h1>Bad gateway</h1>", 502, errors.ApiError, "api answered 502: Bad gateway$"),
        (b"", 503, errors.ServiceUnavailable, None),
    ],
)
async def test_refusals(
    both: Both, body: object, status: int, kind: type[errors.ApiError], message: str | None
) -> None:
    server, api = both
    server.says(body, status)
    with pytest.raises(kind, match=message):
        await api.get(PODS, "p", "n")


async def test_a_watch_yields_events_and_raises_what_the_server_reports(both: Both) -> None:
    server, api = both
    events: list[dict[str, Any]] = [
        {"type": "ADDED", "object": {"metadata": {"name": "a"}}},
        {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}},
    ]
    server.says(b"".join(json.dumps(event).encode() + b"\n" for event in events))
    watch = aiter(api.watch(PODS, resource_version="1"))
    event = await anext(watch)
    assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "a")
    with pytest.raises(errors.Gone, match="too old"):
        await anext(watch)


@pytest.mark.parametrize(
    "line", [b"<html>", b"[]", b'{"error": "no"}', b'{"type": "ADDED"}', b'{"type": 1, "object": {}}']
)
async def test_a_watch_that_turns_into_something_else(both: Both, line: bytes) -> None:
    server, api = both
    server.says(line + b"\n")
    with pytest.raises(errors.ConnectionFailed, match="sends what is no event"):
        async for _ in api.watch(PODS, resource_version="1"):
            pass


async def test_where_a_log_begins(both: Both) -> None:
    server, api = both
    server.says(b"text", headers="Gpuyard-Log-Offset: 65536\r\n")
    told: list[str] = []
    log = api.stream_log(
        "n", "p", tail_lines=1, on_begin=lambda headers: told.append(headers["gpuyard-log-offset"])
    )
    assert ([piece async for piece in log], told) == ([b"", b"text"], ["65536"])
    assert server.asked == ["GET /api/v1/namespaces/n/pods/p/log?tailLines=1"]


async def test_lines_with_their_times(both: Both) -> None:
    server, api = both
    server.says(b"")
    since = "2026-01-31T12:00:00Z"
    log = api.stream_log("n", "p", timestamps=True, since_time=since)
    assert [piece async for piece in log] == [b""]
    assert server.asked == [
        "GET /api/v1/namespaces/n/pods/p/log?timestamps=true&sinceTime=2026-01-31T12%3A00%3A00Z"
    ]


async def test_a_stream_that_is_cut(both: Both) -> None:
    server, api = both
    server.answers.append(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf")
    with pytest.raises(errors.ConnectionFailed, match="doesn't answer"):
        async for _ in api.stream_log("n", "p"):
            pass


async def test_nobody_there() -> None:
    async with RestApi(unix_socket=Path("/tmp/gpuyard-nobody/api")) as api:
        with pytest.raises(errors.ConnectionFailed, match="/tmp/gpuyard-nobody/api doesn't answer"):
            await api.get_path("/version")


async def test_what_can_not_be_sent(both: Both) -> None:
    _, api = both
    with pytest.raises(errors.UsageError, match="can't be"):
        await api.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"a": "\udcff"}}, "n")
    with pytest.raises(errors.UsageError, match="can't be asked for"):
        await api.get(PODS, "a\nb", "n")
    with pytest.raises(errors.UsageError, match="can't be asked for"):
        async for _ in api.stream_log("n", "a\x00b"):
            pass


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        (Connection("https://[::1"), "https://"),
        (Connection("https://h", proxy="nonsense://p"), "proxy"),
        (
            Connection("https://h", headers={"Authorization": "Bearer s\u00e9cret\u20ac"}),
            "the token isn't ASCII",
        ),
    ],
)
def test_a_kubeconfig_that_leads_nowhere(connection: Connection, reason: str) -> None:
    with pytest.raises(errors.UsageError, match="can't connect to") as caught:
        RestApi(connection)
    assert reason in caught.value.message
    assert "cret" not in caught.value.message
