from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.client.api import ObjectList, WatchEvent
from gpuyard.client.informer import Informer
from gpuyard.kube.objects import CONFIG_MAPS, NAMESPACES, Manifest, ObjectKey, Resource, key_of
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store


class Line(ObjectApi):
    """The yard's API behind a line that a test can cut."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, yard_kinds())
        self.lists = 0
        self.refusals: list[errors.GpuyardError] = []
        self._cut: asyncio.Future[errors.GpuyardError | None] = asyncio.get_running_loop().create_future()
        self.watched = asyncio.Event()

    def cut(self, error: errors.GpuyardError | None = None) -> None:
        """Ends the running watch, with an error or as a server does that has had enough."""
        self._cut.set_result(error)

    async def list(self, resource: Resource, namespace: str | None = None, **selectors: str) -> ObjectList:
        self.lists += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return await super().list(resource, namespace, **selectors)

    async def watch(
        self, resource: Resource, namespace: str | None = None, **options: Any
    ) -> AsyncIterator[WatchEvent]:
        cut = self._cut = asyncio.get_running_loop().create_future()
        stream = aiter(super().watch(resource, namespace, **options))
        self.watched.set()
        while True:
            event = asyncio.ensure_future(anext(stream))
            try:
                await asyncio.wait((event, cut), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not event.done():
                    event.cancel()
                    await asyncio.wait((event,))
            if cut.done():
                if error := cut.result():
                    raise error
                return
            yield event.result()


class Watcher:
    """An informer, and everything that it told its handler."""

    def __init__(self, api: Line, **selectors: Any) -> None:
        self.informer = Informer(api, CONFIG_MAPS, retry_s=0.001, **selectors)
        self.told: list[tuple[str | None, str | None]] = []
        self.copy: dict[ObjectKey, Manifest] = {}
        self._news = asyncio.Event()
        self.informer.add_handler(self._handle)

    def _handle(self, old: Manifest | None, new: Manifest | None) -> None:
        self.told.append((text(old), text(new)))
        key = key_of(new or old or {})
        assert self.copy.get(key) == old, "a change starts from what was told before"
        if new is None:
            del self.copy[key]
        else:
            self.copy[key] = new
        self._news.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                self._news.clear()
                await self._news.wait()


def text(manifest: Manifest | None) -> str | None:
    return None if manifest is None else f"{manifest['metadata']['name']}={manifest['data']['v']}"


async def put(api: ObjectApi, name: str, value: str, labels: dict[str, str] | None = None) -> None:
    manifest = {"metadata": {"name": name, "labels": labels or {}}, "data": {"v": value}}
    try:
        await api.create(CONFIG_MAPS, manifest, "default")
    except errors.AlreadyExists:
        await api.patch(CONFIG_MAPS, name, manifest, "default")


async def drop(api: ObjectApi, name: str) -> None:
    await api.delete(CONFIG_MAPS, name, "default")


@contextlib.asynccontextmanager
async def line(folder: Path) -> AsyncIterator[Line]:
    store = await Store.open(folder / "store.db", synchronous="OFF")
    api = Line(store)
    await api.create(NAMESPACES, {"metadata": {"name": "default"}})
    yield api
    await store.close()


@contextlib.asynccontextmanager
async def running(watcher: Watcher) -> AsyncIterator[None]:
    task = asyncio.create_task(watcher.informer.run(), name="informer")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Line]:
    async with line(tmp_path) as api:
        yield api


async def test_has_what_is_there_and_follows_what_changes(api: Line) -> None:
    await put(api, "a", "1")
    watcher = Watcher(api)
    async with running(watcher):
        await watcher.informer.synced()
        assert [text(item) for item in watcher.informer.objects.values()] == ["a=1"]
        await put(api, "b", "1")
        await put(api, "a", "2")
        await drop(api, "b")
        await watcher.until(lambda: len(watcher.told) == 4)
    assert watcher.told == [(None, "a=1"), (None, "b=1"), ("a=1", "a=2"), ("b=1", None)]
    assert watcher.informer.objects == watcher.copy


async def test_what_stops_matching_is_gone(api: Line) -> None:
    await put(api, "other", "1")
    await put(api, "a", "1", {"run": "t"})
    watcher = Watcher(api, namespace="default", label_selector="run=t", field_selector="metadata.name!=b")
    async with running(watcher):
        await watcher.informer.synced()
        await put(api, "b", "1", {"run": "t"})
        await put(api, "a", "2", {"run": "u"})
        await watcher.until(lambda: len(watcher.told) == 2)
    assert watcher.told == [(None, "a=1"), ("a=1", None)]


async def test_goes_on_where_a_stream_ended(api: Line) -> None:
    watcher = Watcher(api)
    async with running(watcher):
        await put(api, "a", "1")
        await watcher.until(lambda: len(watcher.told) == 1)
        for value in ("2", "3"):
            await api.watched.wait()
            api.watched.clear()
            api.cut()
            await put(api, "a", value)
        await watcher.until(lambda: ("a=2", "a=3") in watcher.told)
    assert watcher.told == [(None, "a=1"), ("a=1", "a=2"), ("a=2", "a=3")]
    assert api.lists == 1


@pytest.mark.parametrize("error", [errors.Gone("too old"), errors.ConnectionFailed("the line is dead")])
async def test_lists_again_after_an_error_and_tells_the_difference(
    api: Line, error: errors.GpuyardError
) -> None:
    for name in ("kept", "changed", "dropped", "replaced"):
        await put(api, name, "1")
    watcher = Watcher(api)
    async with running(watcher):
        await watcher.informer.synced()
        await api.watched.wait()
        del watcher.told[:]
        api.cut(error)
        # Nothing reaches the informer until it has listed again.
        await put(api, "changed", "2")
        await drop(api, "dropped")
        await drop(api, "replaced")
        await put(api, "replaced", "2")
        await put(api, "new", "1")
        await watcher.until(lambda: (None, "new=1") in watcher.told and ("dropped=1", None) in watcher.told)
        await watcher.until(lambda: len(watcher.told) >= 5)
    assert sorted(watcher.told, key=str) == sorted(
        [
            ("changed=1", "changed=2"),
            ("dropped=1", None),
            ("replaced=1", None),
            (None, "replaced=2"),
            (None, "new=1"),
        ],
        key=str,
    )
    assert watcher.told.index(("replaced=1", None)) < watcher.told.index((None, "replaced=2"))


async def test_waits_for_an_api_that_is_away(api: Line) -> None:
    api.refusals = [errors.ConnectionFailed("nobody there"), errors.ServiceUnavailable("not yet")]
    watcher = Watcher(api)
    await put(api, "a", "1")
    async with running(watcher), asyncio.timeout(60):
        await watcher.informer.synced()
    assert api.lists == 3
    assert watcher.told == [(None, "a=1")]


async def test_a_server_that_ends_every_stream_is_asked_with_pauses(api: Line) -> None:
    watches = 0

    class Ending(ObjectApi):
        async def watch(
            self, resource: Resource, namespace: str | None = None, **options: Any
        ) -> AsyncIterator[WatchEvent]:
            nonlocal watches
            watches += 1
            if watches > 1:
                raise AssertionError("asked again without a pause")
            return
            yield

    informer = Informer(Ending(api.store, api.kinds), CONFIG_MAPS, retry_s=3600)
    task = asyncio.create_task(informer.run(), name="informer")
    await informer.synced()
    await asyncio.wait((task,), timeout=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert watches == 1


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("abc"), st.sampled_from("12")),
    st.tuples(st.just("drop"), st.sampled_from("abc")),
    st.tuples(st.just("cut"), st.sampled_from(["end", "gone"])),
    st.tuples(st.just("breathe")),
)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(STEPS, max_size=25))
def test_whatever_happens_the_copy_becomes_what_is_there(steps: list[tuple[str, ...]]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with line(Path(folder)) as api:
                watcher = Watcher(api)
                async with running(watcher):
                    for step in steps:
                        await take(api, step)
                    await put(api, "last", "1")
                    await watcher.until(lambda: (None, "last=1") in watcher.told)
                    items = (await api.list(CONFIG_MAPS)).items
                    assert watcher.copy == {key_of(item): item for item in items}
                    assert watcher.informer.objects == watcher.copy

    asyncio.run(play())


async def take(api: Line, step: tuple[str, ...]) -> None:
    match step:
        case ("put", name, value):
            await put(api, name, value)
        case ("drop", name):
            with contextlib.suppress(errors.NotFound):
                await drop(api, name)
        case ("cut", how):
            await api.watched.wait()
            api.watched.clear()
            api.cut(errors.Gone("too old") if how == "gone" else None)
        case ("breathe",):
            await asyncio.sleep(0)


async def test_a_handler_that_raises_is_reported_and_ends_nothing(
    api: Line, caplog: pytest.LogCaptureFixture
) -> None:
    informer = Informer(api, CONFIG_MAPS, retry_s=0.001)
    seen: list[str | None] = []
    news = asyncio.Event()

    def trips(old: Manifest | None, new: Manifest | None) -> None:
        raise KeyError("odd")

    def goes_on(old: Manifest | None, new: Manifest | None) -> None:
        seen.append(text(new))
        news.set()

    informer.add_handler(trips)
    informer.add_handler(goes_on)
    await put(api, "a", "1")
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(60):
            await informer.synced()
            news.clear()
            await put(api, "b", "2")
            await news.wait()
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)
    assert seen == ["a=1", "b=2"]
    assert "KeyError: 'odd'" in caplog.text and "default/a" in caplog.text
