"""Watches and followed logs over HTTP: frames, bookmarks, ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gpuyard.kube.objects import CONFIG_MAPS, PODS, Manifest
from gpuyard.local.http.app import ApiApp
from gpuyard.local.objects.verbs import ObjectApi
from tests.unit.local.conftest import MemoryLogs, Served, serving

from .test_app import MAPS, TABLE, pod, refused
from .test_app import PODS as PODS_PATH


def config_map(name: str, **labels: str) -> Manifest:
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}}


@asynccontextmanager
async def watching(
    http: httpx.AsyncClient, path: str = MAPS, accept: str = "application/json", **params: str
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    params = {"watch": "true", **params}
    async with (
        asyncio.timeout(60),
        http.stream("GET", path, params=params, headers={"Accept": accept}) as response,
    ):
        assert response.status_code == 200

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for line in response.aiter_lines():
                yield orjson.loads(line)

        yield events()


def told(event: dict[str, Any]) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"]["name"]


async def test_changes_after_a_version(served: Served, api: ObjectApi) -> None:
    version = str(api.store.revision)
    await api.create(CONFIG_MAPS, config_map("a"))
    async with watching(served.http, resourceVersion=version) as events:
        assert told(await anext(events)) == ("ADDED", "a")
        await api.delete(CONFIG_MAPS, "a", "default")
        assert told(await anext(events)) == ("DELETED", "a")


@pytest.mark.parametrize("version", [{}, {"resourceVersion": "0"}])
async def test_without_a_version_a_watch_begins_with_what_is_there(
    served: Served, api: ObjectApi, version: dict[str, str]
) -> None:
    await api.create(CONFIG_MAPS, config_map("a", colour="red"))
    await api.create(CONFIG_MAPS, config_map("b", colour="blue"))
    async with watching(served.http, labelSelector="colour=red", **version) as events:
        assert told(await anext(events)) == ("ADDED", "a")
        await api.create(CONFIG_MAPS, config_map("c", colour="red"))
        assert told(await anext(events)) == ("ADDED", "c")


async def test_one_object_can_be_watched_by_its_path(served: Served, api: ObjectApi) -> None:
    for name in ("a", "b"):
        await api.create(CONFIG_MAPS, config_map(name))
    async with watching(served.http, f"{MAPS}/b") as events:
        assert told(await anext(events)) == ("ADDED", "b")


async def test_a_watch_ends_after_its_timeout(served: Served) -> None:
    async with watching(served.http, timeoutSeconds="1", resourceVersion="5") as events:
        assert [event async for event in events] == []


async def test_bookmarks_come_now_and_then_and_at_the_end(
    folder: Path, api: ObjectApi, logs: MemoryLogs
) -> None:
    await api.create(PODS, pod() | {"metadata": {"name": "p", "namespace": "default"}})
    revision = str(api.store.revision)
    async with serving(folder, ApiApp(api, logs=logs, bookmark_s=0.05)) as served:
        async with watching(served.http, resourceVersion="5", allowWatchBookmarks="true") as events:
            bookmark = await anext(events)
        assert bookmark == {
            "type": "BOOKMARK",
            "object": {
                "kind": "ConfigMap",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": revision, "creationTimestamp": None},
            },
        }
        async with watching(
            served.http,
            accept=TABLE["Accept"],
            resourceVersion="5",
            allowWatchBookmarks="true",
            timeoutSeconds="1",
        ) as events:
            types = [(event["type"], event["object"]["kind"]) async for event in events]
    assert set(types) == {("BOOKMARK", "Table")}


async def test_a_watch_of_tables_describes_its_columns_once(served: Served, api: ObjectApi) -> None:
    for name in ("a", "b"):
        await api.create(PODS, pod() | {"metadata": {"name": name, "namespace": "default"}})
    async with watching(served.http, PODS_PATH, TABLE["Accept"]) as events:
        first, second = (await anext(events))["object"], (await anext(events))["object"]
    assert first["columnDefinitions"][0]["name"] == "Name"
    assert second["columnDefinitions"] is None
    assert [table["rows"][0]["cells"][0] for table in (first, second)] == ["a", "b"]


@pytest.mark.parametrize("version", ["1", "999999"])
async def test_a_version_outside_of_history_is_an_error_event(
    served: Served, api: ObjectApi, version: str
) -> None:
    for number in range(205):
        await api.create(CONFIG_MAPS, config_map(f"a{number}"))
    async with watching(served.http, resourceVersion=version) as events:
        [event] = [event async for event in events]
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"sendInitialEvents": "true"},
            "sendInitialEvents is forbidden for watch unless the WatchList feature",
        ),
        ({"resourceVersionMatch": "NotOlderThan"}, "resourceVersionMatch is forbidden for watch"),
    ],
)
async def test_what_a_watch_does_not_serve(served: Served, params: dict[str, str], message: str) -> None:
    response = await served.http.get(MAPS, params={"watch": "true", **params})
    assert message in refused(response, 422, "Invalid")


async def test_a_stopping_server_ends_watches_and_logs(
    served: Served, api: ObjectApi, logs: MemoryLogs
) -> None:
    logs.text["main"] = [b"one\n"]
    await api.create(PODS, pod() | {"metadata": {"name": "p", "namespace": "default"}})
    await api.bind("default", "p", "n")
    log = f"{PODS_PATH}/p/log"
    async with (
        watching(served.http, resourceVersion="5") as events,
        served.http.stream("GET", log, params={"follow": "true"}) as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"one\n"
        served.task.cancel()
        assert [event async for event in events] == []
        assert [piece async for piece in pieces] == []
    assert logs.closed.is_set()


async def test_a_client_that_leaves_releases_what_its_stream_held(
    served: Served, api: ObjectApi, logs: MemoryLogs
) -> None:
    logs.text["main"] = []
    await api.create(PODS, pod() | {"metadata": {"name": "p", "namespace": "default"}})
    await api.bind("default", "p", "n")
    log = f"{PODS_PATH}/p/log"
    async with served.http.stream("GET", log, params={"follow": "true"}) as response:
        assert response.status_code == 200
        await logs.opened.wait()
        assert not logs.closed.is_set()
    async with asyncio.timeout(60):
        await logs.closed.wait()


async def test_a_followed_log_comes_as_it_is_written_and_ends_with_its_container(
    served: Served, api: ObjectApi, logs: MemoryLogs
) -> None:
    logs.text["main"] = [b"one\n"]
    await api.create(PODS, pod() | {"metadata": {"name": "p", "namespace": "default"}})
    await api.bind("default", "p", "n")
    async with served.http.stream("GET", f"{PODS_PATH}/p/log", params={"follow": "true"}) as response:
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"one\n"
        logs.ended.set()
        assert [piece async for piece in pieces] == [b"the end\n"]


async def test_a_stream_that_fails_does_not_end_like_a_whole_one(
    served: Served, api: ObjectApi, logs: MemoryLogs, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks(list[bytes]):
        """Pieces of a log that can't be read to its end."""

        def __iter__(self) -> Iterator[bytes]:
            yield from super().__iter__()
            raise ValueError("a bug")

    logs.text["main"] = Breaks([b"one\n"])
    await api.create(PODS, pod() | {"metadata": {"name": "p", "namespace": "default"}})
    await api.bind("default", "p", "n")
    async with served.http.stream("GET", f"{PODS_PATH}/p/log") as response:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await response.aread()
    assert logs.closed.is_set()
    assert "a stream failed: ValueError: a bug" in caplog.text
